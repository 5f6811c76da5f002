//! Load and measurement tools for Stockloop.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod backlog;
mod bench;
mod fill;
mod made;
mod place;
mod progress;
mod relay;
mod report;
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
    /// Compare layouts of the outbox tables on PostgreSQL and SQLite
    Storage(storage::Arguments),
    /// Fill a service's database with events, and time what operators read
    Fill(fill::Arguments),
    /// Measure the relay on a database and a broker: its speed, its caps, what is in its way
    Relay(relay::Arguments),
    /// Measure what answers cost the service that settles them, with one consumer and with several
    Settle(settle::Arguments),
    /// Measure a whole service on real parts, beside what those could do at the most
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Storage(arguments) => storage::run(&arguments),
        Command::Fill(arguments) => fill::run(&arguments),
        Command::Relay(arguments) => relay::run(&arguments),
        Command::Settle(arguments) => settle::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stockloop-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
