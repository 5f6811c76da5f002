//! The command line that both services share.

pub mod arguments;
mod operators;
mod password;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use common::config::Settings;
use common::env::Env;
use common::telemetry::{init_logging, log_settings};
use engine::open_database;
use operators::{OperatorCommands, TokensCommand, UsersCommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{Application, Service};

pub use password::new_password;

#[derive(Parser)]
#[command(version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    source: Source,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Settings come from the defaults, then from the file given by --config, then from the environment,
where STOCKLOOP__SECTION__NAME is the option `name` of [section]:

  STOCKLOOP__DATABASE__URL=postgres://user:password@host/database
  STOCKLOOP__KAFKA__BROKERS=host:9092
  STOCKLOOP__HTTP__PUBLIC_URL=https://... where browsers find it, for links in mails

A service that others can reach needs an operator first: `users add NAME --role admin` creates
one, and so does the one-time link that `serve` prints while there is none.

`config --example` prints every option with its default, `config` the effective settings.";

#[derive(Args)]
struct Source {
    /// A TOML file with settings; `config --example` prints one with every option.
    #[arg(long, short, global = true, value_name = "FILE", env = "STOCKLOOP_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM or Ctrl-C.
    Serve,
    /// Bring the database's schema up to date, and exit.
    Migrate,
    /// Print the effective settings, with secrets hidden.
    Config {
        /// Print every option with its default instead, as a file to start from.
        #[arg(long)]
        example: bool,
    },
    /// Operators: create the first admin, or regain access after a lockout.
    #[command(subcommand, after_help = USERS_HELP)]
    Users(UsersCommand),
    /// Bearer tokens for scripts.
    #[command(subcommand, after_help = TOKENS_HELP)]
    Tokens(TokensCommand),
}

const USERS_HELP: &str = "\
This works on the database directly, whether the service runs or not, and is noted in the audit log.

  users add alice --role admin                         asks for the password twice
  users add bob --role operator --password-stdin < FILE
  users change alice --password                        a new password; ends her sessions
  users change bob --disable";

const TOKENS_HELP: &str = "\
Only a hash of a token is kept: what `add` prints can't be shown again.

  tokens add backup-script --role viewer --expires-in 90days > token
  STOCKLOOP_ADMIN_TOKEN=$(cat token) stockloop admin overview";

/// What threads still do at the very end is not waited for longer: leaving the groups takes a moment, but librdkafka says
/// goodbye to a broker that is away for a minute.
pub const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a service's command line; what goes wrong is one line on standard error and an exit code of 1.
pub fn run(service: Service) -> ExitCode {
    arenas::limit();
    let command = Cli::command().name(service.name).about(service.about);
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match execute(service, cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", service.name);
            ExitCode::FAILURE
        }
    }
}

fn execute(service: Service, cli: Cli) -> anyhow::Result<()> {
    if let Command::Config { example: true } = cli.command {
        print!("{}", service.defaults);
        return Ok(());
    }
    let settings = Settings::load(service.defaults, cli.source.config.as_deref())?;
    if let Command::Config { .. } = cli.command {
        print!("{}", settings.redacted_toml()?);
        return Ok(());
    }
    init_logging(&settings.log, &settings.service.name)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime can't start")?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Migrate => {
                let db = open_database(&settings, service.migrations).await?;
                println!("{} is up to date", db.describe());
                Ok(())
            }
            Command::Users(command) => {
                operator_commands(service, &settings).await?.users(command).await
            }
            Command::Tokens(command) => {
                operator_commands(service, &settings).await?.tokens(command).await
            }
            Command::Serve | Command::Config { .. } => serve(service, settings).await,
        }
    });
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    ended
}

async fn operator_commands(
    service: Service,
    settings: &Settings,
) -> anyhow::Result<OperatorCommands> {
    Ok(OperatorCommands::new(open_database(settings, service.migrations).await?, Env::system()))
}

async fn serve(service: Service, settings: Settings) -> anyhow::Result<()> {
    log_settings(&settings)?;
    let stop = stop_signal()?;
    let application = Application::start(service, settings, Env::system()).await?;
    println!("{} listens on http://{}", service.name, application.address());
    if let Some(url) = application.setup_url() {
        println!("There is no operator yet. Create the first admin, within 24 hours, at\n  {url}");
    }
    application.run_until(stop).await
}

/// A token that is cancelled by SIGTERM or Ctrl-C; a second signal ends the process at once.
///
/// # Errors
/// When the signals can't be listened to.
pub fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("can't listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen to SIGINT")?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        next().await;
        tracing::info!("stopping: finishing what is in flight");
        stopping.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(stop)
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
