//! Faults on purpose: both services as real processes on a real PostgreSQL and a real Apache Kafka, under load, while
//! something happens to them; then nothing may be missing, done twice or untold.
//!
//! [`scenarios`] says what happens, a [`plan`] when, drawn from a seed. A [`round`] runs it: the [`system`] is made of
//! [`instance`]s, the [`database`]s, a broker, a mail server with its [`catcher`] ([`http_server`]), and a [`proxy`] on each
//! way between;
//! [`load`] is what clients do, each with a [`client`], and [`messages`] what nobody should send. What clients were told is
//! in the [`ledger`], which is held against the databases beside the judge ([`crate::check`]); the [`outcome`] has both.

mod catcher;
mod client;
mod database;
mod http_server;
mod instance;
mod ledger;
mod load;
mod messages;
mod outcome;
mod plan;
mod proxy;
mod round;
mod scenarios;
mod system;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use self::instance::Programs;
use self::outcome::{Outcome, table};
use self::round::Round;
use self::scenarios::{ALL, Scenario};
use crate::bench::service::program;

/// Runs both services under load while faults happen to them, and then holds everything against everything.
///
/// Both are child processes, on a PostgreSQL and an Apache Kafka of their own, which need a JDK 17, and Maven to fetch Kafka
/// once. Clients change products, place orders and cancel them over HTTP, each write with an Idempotency-Key, and repeat
/// what got no answer. What happens, and when, is drawn from the seed and printed. In the end all is put right, and when
/// nothing waits any more, the judge looks (as `stockloop-loadgen check --settled`), and what clients were told is held
/// against the databases: what was answered is there exactly once, and of what nobody knows, all or nothing.
///
/// The exit code is 0 if all is well, and 1 if anything is wrong. Then the command that runs the same again is printed, and
/// logs and databases are kept. The same seed makes the same faults and the same clients; how they meet is not repeated to
/// the millisecond. docs/RELIABILITY.md says what each scenario does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen chaos --scenario kill --seconds 30
  stockloop-loadgen chaos --scenario lost-commit --seed 42
  stockloop-loadgen chaos --seconds 60 --json chaos.json")]
pub(crate) struct Arguments {
    /// What happens
    #[arg(long, value_name = "NAME", default_value = EVERY, value_parser = scenarios::names())]
    scenario: String,
    /// Where plan and clients begin [default: a new one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults happen, if none of them lasts longer
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=128))]
    clients: u16,
    /// The program of product-service [default: product-service beside this program]
    #[arg(long, value_name = "PATH")]
    product_service: Option<PathBuf>,
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    /// Also write the outcomes to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The name that stands for every scenario.
const EVERY: &str = "all";

/// Runs the scenarios one after the other, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let programs = Programs {
        product: program("product-service", arguments.product_service.as_deref())?,
        order: program("order-service", arguments.order_service.as_deref())?,
    };
    // A file that can't be written is said before the work, not after it.
    let mut json = arguments.json.as_deref().map(create).transpose()?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for scenario in chosen(&arguments.scenario) {
        let Arguments { seconds, clients, .. } = *arguments;
        let outcome = Round { programs: &programs, scenario, seed, seconds, clients }.run();
        tell(&outcome, clients);
        outcomes.push(outcome);
    }
    println!("\n{}", table(&outcomes));
    if let Some(file) = &mut json {
        file.write_all(&serde_json::to_vec_pretty(&outcomes)?)?;
    }
    Ok(ExitCode::from(u8::from(!outcomes.iter().all(Outcome::is_well))))
}

fn chosen(name: &str) -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().filter(move |scenario| name == EVERY || name == scenario.name)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// What is wrong, and how to see it again.
fn tell(outcome: &Outcome, clients: u16) {
    if outcome.is_well() {
        println!("{}: all is well", outcome.scenario);
        return;
    }
    outcome.words.iter().for_each(|words| println!("  {words}"));
    println!(
        "{} went wrong; this runs it again:\n  {}",
        outcome.scenario,
        outcome.command(clients)
    );
}
