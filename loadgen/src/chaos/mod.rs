//! Faults on purpose: both services as real processes on a real PostgreSQL and a real Apache Kafka, under load, while
//! something happens to them; then nothing may be missing, done twice or untold.
//!
//! [`scenarios`] says what happens, out of all [`fault`]s, and a [`plan`] when, drawn from a seed. A [`round`] runs it: the
//! [`system`] is made of [`instance`]s, the [`databases`], the [`brokers`], a mail server with its [`catcher`] and a
//! receiver of the [`webhook`] (both on an [`http_server`]), and a [`proxy`] on each way between, which understands as much
//! of the [`wire`] as it has to. A [`clock`] may be wrong, [`rivals`] may lock rows, [`rights`] may be taken away. [`load`]
//! is what clients do, each with a [`client`], [`messages`] what nobody should send, [`translations`] what another release
//! would, and [`mending`] what an operator does about it. [`readers`] tells how far services have read. What clients were
//! told is in the [`ledger`], which is held against the databases, by [`looks`] into them, beside the judge
//! ([`crate::check`]); where rows are forgotten meanwhile, a [`witness`] has seen them. The [`outcome`] has all that, and the
//! [`report`] all outcomes.

mod brokers;
mod catcher;
mod client;
mod clock;
mod databases;
mod fault;
mod http_server;
mod instance;
mod ledger;
mod load;
mod looks;
mod mending;
mod messages;
mod outcome;
mod plan;
mod proxy;
mod readers;
mod report;
mod rights;
mod rivals;
mod round;
mod scenarios;
mod system;
mod translations;
mod webhook;
mod wire;
mod witness;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use stockloop_tests::real::REQUIRE_REAL;

use self::instance::{Relay, Releases};
use self::outcome::{Outcome, table};
use self::report::Report;
use self::round::Round;
use self::scenarios::{ALL, Scenario};
use crate::files::{ensure_writable, write};
use crate::programs::{COPY, OWNER, Programs};

/// Runs both services under load while faults happen to them, and then holds everything against everything.
///
/// Both are child processes, on a PostgreSQL and an Apache Kafka of their own, which need a JDK 17, and Maven to fetch Kafka
/// once. Clients change products, place orders and cancel them over HTTP, each write with an Idempotency-Key, and repeat
/// what got no answer. What happens, and when, is drawn from the seed and printed. In the end all is put right, and when
/// nothing waits any more, the judge looks (as `stockloop-loadgen check --settled`), and what clients were told is held
/// against the databases: what was answered is there exactly once, and of what nobody knows, all or nothing.
///
/// The exit code is 0 if all is well, and 1 if anything is wrong, also if a fault met nothing. Then the command that runs the
/// same again is printed, and logs and databases are kept. The same seed makes the same faults and the same clients; how they
/// meet is not repeated to the millisecond. docs/RELIABILITY.md says what each scenario does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen chaos --scenario kill --seconds 30
  stockloop-loadgen chaos --scenario lost-commit --seed 42 --seeds 5
  stockloop-loadgen chaos --seconds 60 --json chaos.json --report docs/RELIABILITY.md")]
pub(crate) struct Arguments {
    /// What happens
    #[arg(long, value_name = "NAME", default_value = EVERY, value_parser = scenarios::names())]
    scenario: String,
    /// Where plan and clients begin [default: a new one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// With how many seeds each scenario is run: this one and those that follow it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// How long faults happen, if none of them lasts longer; what starts and ends of processes take comes on top
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=128))]
    clients: u16,
    /// Where the services' relays find events
    #[arg(long, value_enum, default_value_t = Relay::Table)]
    relay: Relay,
    /// Changes that wait at once, and messages, in the scenario backlog
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=200_000))]
    backlog: u32,
    /// The program of product-service [default: product-service beside this program]
    #[arg(long, value_name = "PATH")]
    product_service: Option<PathBuf>,
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    /// A folder with both programs of the last release, for the scenario upgrade
    #[arg(long, value_name = "DIR")]
    old_programs: Option<PathBuf>,
    /// Also write the outcomes to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write them as a table into this Markdown file, in the place of the one that is there
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The name that stands for every scenario.
const EVERY: &str = "all";

/// Runs the scenarios one after the other, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // What would fail after minutes fails now.
    let releases = arguments.releases()?;
    let files = Files::of(arguments)?;
    // No more digits than people like to type.
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for scenario in chosen(&arguments.scenario, &releases) {
        for seed in (0..arguments.seeds).map(|more| seed.wrapping_add(more)) {
            let Arguments { seconds, clients, relay, backlog, .. } = *arguments;
            let command = arguments.command(scenario.name, seed);
            let releases = &releases;
            let round =
                Round { releases, scenario, seed, seconds, clients, relay, backlog, command };
            let outcome = round.run();
            tell(&outcome);
            outcomes.push(outcome);
            // Each time, so that nothing is lost of a run that somebody ends.
            files.write(arguments, seed, &outcomes)?;
        }
    }
    println!("\n{}", table(&outcomes));
    Ok(ExitCode::from(u8::from(!outcomes.iter().all(Outcome::is_well))))
}

/// What was asked for; of all scenarios, those that can be run here.
fn chosen(name: &str, releases: &Releases) -> impl Iterator<Item = &'static Scenario> {
    let is_forced = std::env::var_os(REQUIRE_REAL).is_some_and(|value| value == "1");
    let can_run = move |scenario: &&'static Scenario| match (scenario.missing)(releases) {
        // Nobody can install the programs of another release.
        Some(missing) if !is_forced || scenario.is_upgraded => {
            println!("SKIPPED: {}: {missing}", scenario.name);
            false
        }
        _ => true,
    };
    let is_every = name == EVERY;
    let named = ALL.iter().filter(move |scenario| is_every || name == scenario.name);
    named.filter(move |scenario| !is_every || can_run(scenario))
}

impl Arguments {
    /// The programs of this release, and of the last one if they are named.
    fn releases(&self) -> Result<Releases> {
        let in_folder = |folder: &Path| {
            let found = Programs::find(Some(&folder.join(OWNER)), Some(&folder.join(COPY)));
            found.with_context(|| format!("--old-programs {}", folder.display()))
        };
        let before = self.old_programs.as_deref().map(in_folder).transpose()?;
        let this = Programs::find(self.product_service.as_deref(), self.order_service.as_deref())?;
        Ok(Releases { this, before })
    }

    /// The command that runs a scenario again, by this very program.
    fn command(&self, scenario: &str, seed: u64) -> String {
        let program = std::env::args_os().next().map_or_else(PathBuf::new, PathBuf::from);
        let Self { seconds, clients, relay, backlog, .. } = self;
        let mut command = format!(
            "{} chaos --scenario {scenario} --seed {seed} --seconds {seconds} --clients {clients} --relay {relay} --backlog {backlog}",
            quoted(&program)
        );
        for (name, path) in [
            ("--product-service", &self.product_service),
            ("--order-service", &self.order_service),
            ("--old-programs", &self.old_programs),
        ] {
            if let Some(path) = path {
                command.push_str(&format!(" {name} {}", quoted(path)));
            }
        }
        command
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What is written beside the table.
struct Files<'a> {
    json: Option<&'a Path>,
    report: Option<Report>,
}

impl<'a> Files<'a> {
    /// Fails where one could not be written; what they hold stays until then.
    fn of(arguments: &'a Arguments) -> Result<Self> {
        let json = arguments.json.as_deref();
        if let Some(file) = json {
            ensure_writable(file)?;
        }
        let report = arguments.report.as_deref().map(Report::open).transpose()?;
        Ok(Self { json, report })
    }

    fn write(&self, arguments: &Arguments, seed: u64, outcomes: &[Outcome]) -> Result<()> {
        if let Some(file) = self.json {
            write(file, serde_json::to_vec_pretty(outcomes)?)?;
        }
        if let Some(report) = &self.report {
            let Arguments { scenario, seeds, seconds, clients, relay, backlog, .. } = arguments;
            let first = outcomes.first().map_or(seed, |outcome| outcome.seed);
            let command = format!(
                "stockloop-loadgen chaos --scenario {scenario} --seed {first} --seeds {seeds} --seconds {seconds} --clients {clients} --relay {relay} --backlog {backlog}"
            );
            report.write(&command, outcomes)?;
        }
        Ok(())
    }
}

/// What came of it; what is wrong, and how to see it again.
fn tell(outcome: &Outcome) {
    let Outcome { scenario, seed, words, command, .. } = outcome;
    println!("{scenario}: it met {}", outcome.met());
    if outcome.is_well() {
        println!("{scenario}: all is well");
        return;
    }
    words.iter().for_each(|words| println!("  {words}"));
    println!("{scenario} went wrong with seed {seed}; this runs it again:\n  {command}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_cut_it() {
        assert_eq!(
            quoted(Path::new("target/release/order-service")),
            "target/release/order-service"
        );
        assert_eq!(quoted(Path::new("my target/a'b")), r"'my target/a'\''b'");
    }

    #[test]
    fn a_scenario_is_chosen_by_its_name() {
        let [owner, copy] = [OWNER, COPY].map(PathBuf::from);
        let releases = Releases { this: Programs { owner, copy }, before: None };
        let names =
            |name| -> Vec<&str> { chosen(name, &releases).map(|scenario| scenario.name).collect() };
        assert_eq!(names("kill"), ["kill"]);
        assert_eq!(names("upgrade"), ["upgrade"], "also where it can't be run, which is said then");
        let all = names(EVERY);
        assert!(!all.contains(&"upgrade"), "there are no programs of the last release");
        let needing = ALL.iter().filter(|scenario| (scenario.missing)(&releases).is_some());
        assert!(all.len() + needing.count() >= ALL.len());
    }
}
