//! `stockloop till`: plays a till, which writes the sales lines of a file to a topic, as deploy/flink reads them.
//!
//! [`lines`] reads the file, [`message`] makes a message of each line, and [`summary`] counts what became of them.

mod lines;
mod message;
mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use common::config::Settings;
use common::env::Env;
use common::telemetry::BrokerState;
use engine::kafka::Producer;
use indicatif::{ProgressBar, ProgressStyle};
use service::cli::stop_signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::lines::{Chunk, Line, TillLines, read_already, together};
use self::summary::Summary;
use crate::admin_cli::exit_code;
use crate::admin_cli::outcome::Outcome;
use crate::dataset::Source;

pub(crate) use self::message::{KeyKind, invoice_date};

/// How much of an idle time is made up for.
const MOST_BEHIND: Duration = Duration::from_secs(1);

const STYLE: &str = "{elapsed_precise} {bar:30} {bytes}/{total_bytes}  {msg}";

/// `stockloop till`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TillArgs {
    /// The file of sales lines, plain or gzipped; - is standard input.
    file: PathBuf,
    /// The broker; by default STOCKLOOP__KAFKA__BROKERS, or 127.0.0.1:9092.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The topic, which has to be there.
    #[arg(long, value_name = "NAME", default_value = "till.sales.v1")]
    topic: String,
    /// Lines a second; 0 is as fast as it goes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u32,
    /// Read only this many lines of the file.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// What the messages' keys are.
    #[arg(long, value_enum, default_value_t = KeyKind::Invoice)]
    key: KeyKind,
}

const AFTER_HELP: &str = "\
The file has the columns Invoice (or InvoiceNo), StockCode, Description, Quantity, InvoiceDate,
Price (or UnitPrice) and Customer ID. They may be in any order, and among others; between fields
are commas, semicolons or tabs. data/ of the source has such a file.

Each line becomes a JSON object with these columns as texts, as they stand there; only a date such
as 2010-12-01T08:26:00 becomes 1/12/2010 8:26. Whether they make sense is for the reader of the
topic to say (deploy/flink/README.md). Lines that can't be cut into columns are not sent, and stop
no others.

It ends when the broker has all of it. The same file played again is the same lines again: with
--key invoice in any case, with --key line as long as the file's lines keep their numbers. The
header is line 1; mend a line where it stands, and add others at the end.

What comes through a pipe is sent line by line, as it comes; Ctrl-C sends what has come, and ends.

Examples:
  stockloop till data/online_retail_2010-12.csv.gz --limit 1000
  stockloop till sales.csv --key line --rate 20 --brokers kafka:9092
  zcat sales.csv.gz | stockloop till - --topic till.sales.v1

Environment:
  STOCKLOOP__KAFKA__BROKERS, STOCKLOOP__KAFKA__PROPERTIES__…    as for the services

Exit codes:
  0  done
  1  failed or stopped, or every line was refused
  2  not understood
  3  done, but some lines were refused";

/// What is sent, and how.
#[derive(Debug, Clone)]
struct Plan {
    source: Source,
    topic: String,
    key: KeyKind,
    rate: u32,
    limit: Option<u64>,
    /// Whether what is read comes once.
    is_feed: bool,
}

impl TillArgs {
    fn plan(&self) -> Plan {
        Plan {
            source: self.source(),
            topic: self.topic.clone(),
            key: self.key,
            rate: self.rate,
            limit: self.limit,
            is_feed: self.is_feed(),
        }
    }

    /// What is read, for messages.
    fn source(&self) -> Source {
        match self.is_standard_input() {
            true => Source::from(Path::new("standard input")),
            false => Source::from(self.file.as_path()),
        }
    }

    fn is_standard_input(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// Whether what is read comes once, when it comes, as from a pipe.
    fn is_feed(&self) -> bool {
        self.is_standard_input() || !self.file.is_file()
    }
}

/// Plays a till.
pub(crate) async fn run(args: TillArgs) -> anyhow::Result<ExitCode> {
    exit_code(play(args).await, false)
}

async fn play(args: TillArgs) -> anyhow::Result<Outcome> {
    let stop = stop_signal()?;
    let bar = bar(&args);
    let end_reading = stop.child_token();
    let lines = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(anyhow!("stopped before the first line")),
        lines = open(args.clone(), bar.clone(), end_reading.clone()) => lines?,
    };
    let producer = producer(&args).await?;
    let (mut lines, reading) = lines.read();
    let plan = args.plan();
    let mut till = Till::new(producer, plan.clone(), bar);
    let ended = match till.send_all(&mut lines, &stop).await {
        Ok(()) => match reading.await.context("reading the file broke off")? {
            Some(_) if stop.is_cancelled() => Err(stopped(&plan)),
            Some(error) => Err(error.into()),
            None => Ok(()),
        },
        // The reader itself is not waited for, since it may wait for a pipe.
        Err(error) if plan.is_feed => {
            end_reading.cancel();
            Err(till.send_rest(&mut lines).await.err().unwrap_or(error))
        }
        Err(error) => Err(error),
    };
    till.finish(ended)
}

/// Plays a till without a word: the first lines of a source, each with a key of its own.
pub(crate) async fn sell(
    source: &Source,
    limit: Option<u64>,
    topic: &str,
    producer: Producer,
) -> anyhow::Result<()> {
    let (source, topic) = (source.clone(), topic.to_owned());
    let plan = Plan { source, topic, key: KeyKind::Line, rate: 0, limit, is_feed: false };
    let opened = plan.clone();
    let open = move || TillLines::of(&opened, opened.source.open()?);
    let lines = tokio::task::spawn_blocking(open).await.context("reading the file broke off")??;
    let (mut lines, reading) = lines.read();
    let mut till = Till::new(producer, plan, ProgressBar::hidden());
    till.send_all(&mut lines, &CancellationToken::new()).await?;
    match reading.await.context("reading the file broke off")? {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

async fn open(
    args: TillArgs,
    bar: ProgressBar,
    ended: CancellationToken,
) -> anyhow::Result<TillLines> {
    let open = move || TillLines::open(&args, &bar, ended);
    Ok(tokio::task::spawn_blocking(open).await.context("reading the file broke off")??)
}

/// Bytes of a file that has an end, else only what became of the lines.
fn bar(args: &TillArgs) -> ProgressBar {
    let known = args.file.metadata().ok().filter(|_| !args.is_feed());
    let Some(known) = known else { return ProgressBar::new_spinner() };
    // The template is a constant; should it ever be wrong, the default will do.
    let style = ProgressStyle::with_template(STYLE);
    ProgressBar::new(known.len()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A producer as the services have it, with their settings, for a topic that is there.
async fn producer(args: &TillArgs) -> anyhow::Result<Producer> {
    let mut settings = Settings::load(product_service::SERVICE.defaults, None)?.kafka;
    if let Some(brokers) = &args.brokers {
        settings.brokers.clone_from(brokers);
    }
    let producer = Producer::new(&settings, "stockloop-till", BrokerState::new(Env::system()))?;
    let (asker, topic) = (producer.clone(), args.topic.clone());
    let asked = tokio::task::spawn_blocking(move || asker.partitions(&topic)).await;
    match asked.context("looking up the topic broke off")? {
        Ok(_) => Ok(producer),
        Err(reason) => Err(anyhow!(
            "{reason}\n  Is a broker at {}? Set its address with --brokers. Does it have the topic? deploy/flink/README.md says how to make it.",
            settings.brokers
        )),
    }
}

fn stopped(plan: &Plan) -> anyhow::Error {
    match plan.is_feed {
        true => anyhow!("stopped before the end; the lines that had come by then were sent"),
        false => anyhow!(
            "stopped before the end; play it again in the same way, and what was sent counts once"
        ),
    }
}

fn not_taken(plan: &Plan, reason: &str) -> anyhow::Error {
    let next = match plan.is_feed {
        true => "What was not sent does not come again by itself",
        false => "Play it again in the same way, and what was sent counts once",
    };
    anyhow!("the broker did not take all of it: {reason}\n  {next}.")
}

/// A run.
struct Till {
    plan: Plan,
    producer: Producer,
    pace: Pace,
    summary: Summary,
    bar: ProgressBar,
}

impl Till {
    fn new(producer: Producer, plan: Plan, bar: ProgressBar) -> Self {
        let pace = Pace::new(plan.rate);
        Self { plan, producer, pace, summary: Summary::default(), bar }
    }

    /// Sends all lines, each as soon as it is there; what was sent is counted, even if it ends early.
    async fn send_all(
        &mut self,
        lines: &mut mpsc::Receiver<Line>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let most = together(self.plan.rate);
        loop {
            let mut read = Vec::new();
            let next = async {
                self.pace.wait().await;
                lines.recv_many(&mut read, most).await
            };
            let got = tokio::select! {
                got = next => got,
                () = stop.cancelled() => return Err(stopped(&self.plan)),
            };
            if got == 0 {
                return Ok(());
            }
            let chunk = Chunk::of(read);
            self.pace.count(chunk.messages.len() as u64, Instant::now());
            self.send(&chunk).await?;
        }
    }

    async fn send(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        let sent = self.producer.send_all(&chunk.messages).await;
        if let Some(reason) = self.summary.add(chunk, sent) {
            return Err(not_taken(&self.plan, &reason));
        }
        self.bar.set_message(self.summary.progress());
        self.bar.tick();
        Ok(())
    }

    /// Sends what was read of a feed, since it does not come again; without a broker it is only counted.
    async fn send_rest(&mut self, lines: &mut mpsc::Receiver<Line>) -> anyhow::Result<()> {
        let mut sent = Ok(());
        while let Some(chunk) = read_already(lines).await {
            match self.summary.unsent() {
                0 => sent = self.send(&chunk).await,
                _ => self.summary.leave(&chunk),
            }
        }
        sent
    }

    /// Prints what became of the run, and says how it ended.
    fn finish(self, ended: anyhow::Result<()>) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        for remark in self.summary.remarks() {
            eprintln!("{remark}");
        }
        let file = self.plan.source.to_string();
        let sentence = self.summary.sentence(&file, &self.plan.topic, ended.is_ok());
        let told = writeln!(io::stdout().lock(), "{sentence}");
        ended?;
        match self.summary.outcome() {
            Outcome::Done => Ok(told.map(|()| Outcome::Done)?),
            // What became of the lines matters more than whether somebody reads it.
            outcome => Ok(outcome),
        }
    }
}

/// So many lines a second.
struct Pace {
    rate: u32,
    /// When the next line is due.
    due: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { rate, due: Instant::now() }
    }

    /// Waits until the next line is due.
    async fn wait(&self) {
        if self.rate > 0 {
            sleep_until(self.due).await;
        }
    }

    /// Counts lines that are sent now. Where none came for long, the next ones do not come all at once.
    fn count(&mut self, lines: u64, now: Instant) {
        if self.rate > 0 {
            let behind = now.saturating_duration_since(self.due);
            self.due += behind.saturating_sub(MOST_BEHIND) + due_after(lines, self.rate);
        }
    }
}

fn due_after(lines: u64, rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    let rest = (lines % rate).saturating_mul(1_000_000_000) / rate;
    Duration::from_secs(lines / rate) + Duration::from_nanos(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_due_at_their_rate() {
        assert_eq!(due_after(0, 20), Duration::ZERO);
        assert_eq!(due_after(30, 20), Duration::from_millis(1_500));
        assert_eq!(due_after(1, u32::MAX), Duration::from_nanos(0));
        assert_eq!(due_after(u64::MAX, u32::MAX).as_secs(), u64::MAX / u64::from(u32::MAX));
    }

    #[test]
    fn an_idle_time_is_made_up_for_by_a_second_at_the_most() {
        let mut pace = Pace::new(10);
        let begun = pace.due;
        let mut due_at = |now: u64, lines: u64| {
            pace.count(lines, begun + Duration::from_millis(now));
            pace.due - begun
        };
        assert_eq!(due_at(0, 5), Duration::from_millis(500));
        assert_eq!(due_at(1_000, 5), Duration::from_millis(1_000));
        assert_eq!(due_at(60_000, 5), Duration::from_millis(59_500));
    }
}
