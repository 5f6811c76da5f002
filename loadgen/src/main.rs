//! Load and measurement tools for Stockloop.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod backlog;
mod bench;
mod chaos;
mod check;
mod connection;
mod files;
mod fill;
mod interrupt;
mod made;
mod place;
mod programs;
mod progress;
mod relay;
mod report;
mod reserved;
mod settle;
mod statement;
mod storage;

/// Load and measurement tools for Stockloop.
#[derive(Debug, Parser)]
#[command(name = "stockloop-loadgen", version, about)]
struct Cli {
    /// What to measure.
    #[command(subcommand)]
    command: Command,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum Command {
    // The help of each is that of its arguments: words here would take their place.
    Storage(storage::Arguments),
    Fill(fill::Arguments),
    Relay(relay::Arguments),
    Settle(settle::Arguments),
    Bench(bench::Arguments),
    Check(check::Arguments),
    Chaos(chaos::Arguments),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match interrupt::watch().and_then(|()| run(&command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stockloop-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Storage(arguments) => storage::run(arguments)?,
        Command::Fill(arguments) => fill::run(arguments)?,
        Command::Relay(arguments) => relay::run(arguments)?,
        Command::Settle(arguments) => settle::run(arguments)?,
        Command::Bench(arguments) => bench::run(arguments)?,
        // These have more to say than whether it went well.
        Command::Check(arguments) => return Ok(check::run(arguments)),
        Command::Chaos(arguments) => return chaos::run(arguments),
    }
    Ok(ExitCode::SUCCESS)
}
