//! The all-in-one binary: both services, the broker and the mail catcher in one process, for trying out; and the
//! operators' command line, for services that run anywhere.

mod admin_cli;
mod catcher;
mod dataset;
mod demo;
mod dev;
mod products;
mod stack;
mod tabular;
mod till;
mod topics;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use common::config::{LogFormat, LogSettings};
use common::telemetry::init_logging;
use service::cli::RUNTIME_SHUTDOWN_TIMEOUT;

/// Stockloop keeps a copy of one service's inventory in another service's database, and can prove at any
/// moment which changes have arrived.
#[derive(Parser)]
#[command(name = "stockloop", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log, such as `info` or `warn,engine::outbox=debug`.
    // Behind the options of each command, however many commands there are.
    #[arg(long, global = true, default_value = "warn", env = "STOCKLOOP_LOG", display_order = 900)]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run both services with an embedded broker and a mail catcher, and stay up.
    Dev(dev::DevArgs),
    /// Replay a month of real sales through both services, with a fault on the way, and check the result.
    Demo(demo::DemoArgs),
    /// Operate a running service: see its events and alerts, and act on them.
    Admin(admin_cli::AdminArgs),
    /// Find out whether the copy has what its source has; the exit code says so.
    Verify(admin_cli::proof::VerifyArgs),
    /// Send again what a verification found to differ, and verify it.
    Repair(admin_cli::proof::RepairArgs),
    /// Send the states of keys again: of some, of all, or of those that changed lately.
    Resync(admin_cli::proof::ResyncArgs),
    /// Send the kept states of keys once more: through the loop, for a consumer, or into another topic.
    Replay(admin_cli::proof::ReplayArgs),
    /// Mend what a database misses that came back from a backup.
    Restored(admin_cli::proof::RestoredArgs),
    /// See how far a new or emptied copy is filled, or begin that anew.
    Bootstrap(admin_cli::proof::BootstrapArgs),
    /// Show what a product was: its versions, or its state at one of them or at a moment.
    History(products::HistoryArgs),
    /// Put products into the inventory from a file.
    Import(products::ImportArgs),
    /// Write the inventory as a file.
    Export(products::ExportArgs),
    /// Play a till, which writes the sales lines of a file to a topic.
    Till(till::TillArgs),
    /// Make the topics of the views and of the till, and look at those that are there.
    Topics(topics::TopicsArgs),
}

fn main() -> ExitCode {
    arenas::limit();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stockloop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    init_logging(&LogSettings { format: LogFormat::Auto, filter: cli.log }, "stockloop")?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime can't start")?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => dev::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Demo(args) => demo::run(args).await,
            Command::Admin(args) => admin_cli::run(args).await,
            Command::Verify(args) => Ok(admin_cli::proof::verify(args).await),
            Command::Repair(args) => Ok(admin_cli::proof::repair(args).await),
            Command::Resync(args) => Ok(admin_cli::proof::resync(args).await),
            Command::Replay(args) => Ok(admin_cli::proof::replay(args).await),
            Command::Restored(args) => Ok(admin_cli::proof::restored(args).await),
            Command::Bootstrap(args) => Ok(admin_cli::proof::bootstrap(args).await),
            Command::History(args) => products::history(args).await,
            Command::Import(args) => products::import(args).await,
            Command::Export(args) => products::export(args).await,
            Command::Till(args) => till::run(args).await,
            Command::Topics(args) => topics::run(args).await,
        }
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// Each command is only built, and checked by clap, when somebody asks for it: here all of them.
    #[test]
    fn every_command_can_be_built() {
        Cli::command().debug_assert();
    }
}
