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
mod process;
mod programs;
mod progress;
mod relay;
mod report;
mod reserved;
mod settle;
mod statement;
mod storage;
mod topics;

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    /// The examples in the help of a command and of those below it, each in one line.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace("\\\n", "");
        let own = help.lines().map(str::trim).filter(|line| line.starts_with("stockloop-loadgen "));
        own.map(str::to_owned).chain(command.get_subcommands().flat_map(examples)).collect()
    }

    #[test]
    fn examples_are_commands_as_they_stand() {
        let examples = examples(&Cli::command());
        assert!(examples.len() > 40, "{examples:?}");
        for example in examples {
            assert!(!example.contains("..."), "{example}");
            let refused = Cli::try_parse_from(example.split_whitespace()).err();
            // Its help says which variables have what this one leaves out.
            let is_left_out = |error: &clap::Error| {
                error.kind() == ErrorKind::MissingRequiredArgument && example.contains(" check ")
            };
            let refused = refused.filter(|error| !is_left_out(error));
            assert!(refused.is_none(), "{example}: {refused:?}");
        }
    }
}
