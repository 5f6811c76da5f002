//! `stockloop till`: plays a till, which writes the sales lines of a file to a topic, as deploy/flink reads them.
//!
//! [`lines`] reads the file, [`message`] makes a message of each line, and [`summary`] counts what became of them.

mod lines;
mod message;
mod summary;

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

use self::lines::{Chunk, TillLines};
use self::message::KeyKind;
use self::summary::Summary;
use crate::admin_cli::exit_code;
use crate::admin_cli::outcome::Outcome;
use crate::dataset::Source;

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
The file has the columns Invoice (or InvoiceNo), StockCode, Description, Quantity, InvoiceDate, Price
(or UnitPrice) and Customer ID. They may be in any order, and among others; between fields are commas,
semicolons or tabs. data/ of the source has such a file.

Each line becomes a JSON object with these columns as texts, as they stand there; only a date such as
2010-12-01T08:26:00 becomes 1/12/2010 8:26. Whether they make sense is for the reader of the topic to
say (deploy/flink/README.md). Lines that can't be cut into columns are not sent, and stop no others.

It ends when the broker has all of it. The same file played again is the same lines again: with
--key invoice in any case, with --key line as long as the file's lines keep their numbers. The
header is line 1; mend a line where it stands, and add others at the end.

Examples:
  stockloop till data/online_retail_2010-12.csv.gz --limit 1000
  stockloop till sales.csv --key line --rate 20 --brokers kafka:9092
  zcat sales.csv.gz | stockloop till - --topic till.sales.v1

Environment:
  STOCKLOOP__KAFKA__BROKERS, STOCKLOOP__KAFKA__PROPERTIES__…    as for the services

Exit codes:
  0  done
  1  failed, or every line was refused
  2  not understood
  3  done, but some lines were refused";

impl TillArgs {
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
}

/// Plays a till.
pub(crate) async fn run(args: TillArgs) -> anyhow::Result<ExitCode> {
    exit_code(play(args).await, false)
}

async fn play(args: TillArgs) -> anyhow::Result<Outcome> {
    let stop = stop_signal()?;
    let bar = bar(&args.file);
    let lines = tokio::select! {
        lines = open(args.clone(), bar.clone()) => lines?,
        () = stop.cancelled() => return Err(stopped()),
    };
    let producer = producer(&args).await?;
    let (chunks, reading) = lines.read();
    let mut till = Till { producer, pace: Pace::new(args.rate), summary: Summary::default(), bar };
    let ended = match till.send_all(chunks, &stop).await {
        // Without this, a reader that waits for a pipe would be waited for.
        Err(error) => Err(error),
        Ok(()) => match reading.await.context("reading the file broke off")? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        },
    };
    till.finish(&args, ended)
}

async fn open(args: TillArgs, bar: ProgressBar) -> anyhow::Result<TillLines> {
    let open = move || TillLines::open(&args, &bar);
    Ok(tokio::task::spawn_blocking(open).await.context("reading the file broke off")??)
}

/// Bytes of a file that has an end, else (- too) only what became of the lines.
fn bar(path: &Path) -> ProgressBar {
    let known = path.metadata().ok().filter(|known| known.is_file());
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

fn stopped() -> anyhow::Error {
    anyhow!("stopped before the end; play it again in the same way, and what was sent counts once")
}

/// A run.
struct Till {
    producer: Producer,
    pace: Pace,
    summary: Summary,
    bar: ProgressBar,
}

impl Till {
    /// Sends the whole file; what was sent is counted, even if it ends early.
    async fn send_all(
        &mut self,
        mut chunks: mpsc::Receiver<Chunk>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let next = async {
                self.pace.wait(self.summary.sent()).await;
                chunks.recv().await
            };
            let chunk = tokio::select! {
                chunk = next => chunk,
                () = stop.cancelled() => return Err(stopped()),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let sent = self.producer.send_all(&chunk.messages).await;
            if let Some(reason) = self.summary.add(&chunk, sent) {
                return Err(anyhow!(
                    "the broker did not take all of it: {reason}\n  Play it again in the same way, and what was sent counts once."
                ));
            }
            self.bar.set_message(self.summary.progress());
            self.bar.tick();
        }
    }

    /// Prints what became of the run, and says how it ended.
    fn finish(self, args: &TillArgs, ended: anyhow::Result<()>) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        for remark in self.summary.remarks() {
            eprintln!("{remark}");
        }
        let file = args.source().to_string();
        println!("{}", self.summary.sentence(&file, &args.topic, ended.is_ok()));
        ended?;
        Ok(self.summary.outcome())
    }
}

/// So many lines a second.
struct Pace {
    rate: u32,
    begun: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { rate, begun: Instant::now() }
    }

    /// Waits until the line behind so many is due.
    async fn wait(&self, lines: u64) {
        if self.rate > 0 {
            sleep_until(self.begun + due_after(lines, self.rate)).await;
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
}
