//! Faults on purpose: both services as real processes on a real PostgreSQL and a real Apache Kafka, under load, while
//! something happens to them; then nothing may be missing, done twice or untold.
//!
//! [`arguments`] say what is to be run. [`scenarios`] says what happens, out of all [`fault`]s, and a [`plan`] when,
//! drawn from a seed. A [`mod@round`] runs it; several at a time are [`jobs`]. The [`system`] is made of [`instance`]s,
//! the [`databases`], the [`brokers`], a mail server with its [`catcher`] and a receiver of the [`webhook`] (both on an
//! [`http_server`]), and a [`proxy`] on each way between, which understands as much of the [`wire`] as it has to. A
//! [`clock`] may be wrong, [`chores`] may be cut off, [`rivals`] may lock rows, [`rights`] may be taken away. [`load`]
//! is what clients do, each with a [`client`], [`messages`] what nobody should send, [`translations`] what another
//! release would, and [`mending`] what an operator does about it. [`readers`] tells how far services have read, and
//! [`waiting`] is for what comes by itself. What clients were told is in the [`ledger`], which is held against the
//! databases, by [`looks`] into them, beside the judge ([`crate::check`]); where rows are forgotten meanwhile, a
//! [`witness`] has seen them, and [`aging`] knows what months take away. The [`outcome`] has all that, the [`record`]
//! all outcomes so far, and the [`report`] a table of them.

mod aging;
mod arguments;
mod brokers;
mod catcher;
mod chores;
mod client;
mod clock;
mod databases;
mod fault;
mod http_server;
mod instance;
mod jobs;
mod ledger;
mod load;
mod looks;
mod mending;
mod messages;
mod outcome;
mod plan;
mod proxy;
mod readers;
mod record;
mod report;
mod rights;
mod rivals;
mod round;
mod scenarios;
mod system;
mod translations;
mod waiting;
mod webhook;
mod wire;
mod witness;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

pub(crate) use self::arguments::Arguments;
use self::arguments::Trial;
use self::instance::Releases;
use self::outcome::{Outcome, effort, table};
use self::record::{Build, Record};
use self::report::Report;
use self::round::Round;
use crate::files::{ensure_writable, replace};

/// Runs the scenarios, and prints a table.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // What would fail after minutes fails now.
    let releases = arguments.releases()?;
    let (mut series, trials) = Series::begin(arguments, &releases)?;
    if series.at_once > 1 {
        jobs::run(arguments, series.at_once, trials, |outcome| series.take(outcome))?;
    } else {
        for trial in trials {
            let outcome = round(arguments, &releases, trial).run();
            tell(&outcome);
            series.take(outcome)?;
        }
    }
    let Series { record, .. } = &series;
    println!("\n{}\n{}:\n\n{}", series.command(), series.effort(), table(&record.outcomes));
    Ok(ExitCode::from(u8::from(!record.is_well())))
}

fn round<'a>(arguments: &Arguments, releases: &'a Releases, trial: Trial) -> Round<'a> {
    let Arguments { seconds, clients, relay, backlog, .. } = *arguments;
    let (command, Trial { scenario, seed }) = (arguments.command(trial), trial);
    Round { releases, scenario, seed, seconds, clients, relay, backlog, command }
}

/// All that is run, and what has come of it.
struct Series<'a> {
    arguments: &'a Arguments,
    releases: &'a Releases,
    at_once: usize,
    began: Instant,
    files: Files<'a>,
    record: Record,
}

impl<'a> Series<'a> {
    /// A new one, or one of which something was run before; and what is still to be run.
    fn begin(arguments: &'a Arguments, releases: &'a Releases) -> Result<(Self, Vec<Trial>)> {
        // No more digits than people like to type.
        let first = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let command = arguments.command_for_others(first);
        let mut record = Record::new(command, first, Build::all(releases)?);
        if let Some(file) = arguments.json.as_deref().filter(|_| arguments.resume) {
            record = record.resumed(file)?;
        }
        let files = Files::of(arguments)?;
        let mut trials = arguments.trials(first, releases);
        let at_once = trials.len().min(arguments.jobs.into());
        let series = Self { arguments, releases, at_once, began: Instant::now(), files, record };
        if arguments.resume {
            trials.retain(|trial| !series.record.has(trial));
            let ended = series.record.outcomes.len();
            println!("{ended} have ended before, {} are left", trials.len());
        }
        if !series.record.outcomes.is_empty() {
            series.write()?;
        }
        Ok((series, trials))
    }

    /// Takes what came of one, and writes it down: each time, so that nothing is lost of a run that somebody ends.
    fn take(&mut self, outcome: Outcome) -> Result<()> {
        self.record.ensure_of(&Build::all(self.releases)?)?;
        self.record.take(outcome, self.began.elapsed());
        self.write()
    }

    fn write(&self) -> Result<()> {
        self.files.write(&self.record, &self.effort())
    }

    fn command(&self) -> String {
        self.arguments.whole_command(self.record.first_seed)
    }

    fn effort(&self) -> String {
        effort(self.record.outcomes.len(), &self.record.sittings(), self.at_once)
    }
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

    fn write(&self, record: &Record, effort: &str) -> Result<()> {
        if let Some(file) = self.json {
            replace(file, serde_json::to_vec_pretty(record)?)?;
        }
        let Record { command, outcomes, .. } = record;
        self.report.as_ref().map_or(Ok(()), |report| report.write(command, effort, outcomes))
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
