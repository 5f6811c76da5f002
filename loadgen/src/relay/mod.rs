//! The relay measured on a real database and broker: how fast a backlog drains, whether caps hold, and what a step costs
//! with much in its way.
//!
//! [`mod@bench`] has the scenarios, [`instance`] what relays, [`append`] single events, and [`broker`] where they go.

mod append;
mod bench;
mod broker;
mod instance;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use common::env::Env;

use crate::place::{Place, places};
use crate::report::Report;

use self::bench::Bench;
use self::broker::Broker;

/// Measures the relay in this process, on a real database and a real broker.
///
/// `drain` relays a backlog with one instance and with several, each with its own connections, producer, leases and
/// tasks; then again with the caps of a service, while something settles, and says how many events were SENT in one
/// partition at the most. `in-the-way` says what a step and a single event cost while many rows lie around that the relay
/// has no business with: `first` is the first step of a new relay, `step` the median of five later ones (each of --batch
/// events), p50 and p99 are from the commit of one event until it is SENT. Figures of time are in ms.
///
/// Cases take turns; the tables show medians, and ratios to the first line. Every run has a database of its own: on a
/// PostgreSQL server one beside the database of the URL, named after it with `_stockloop_benchmark` behind, in a folder
/// `stockloop-benchmark.db`. It is made anew and removed at the end. The topic `stockloop-relay-benchmark` stays on a broker.
/// The embedded broker runs in this process and shares its processors: take a real one to compare instances.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen relay --postgres-url postgres://postgres@localhost/postgres --repeat 3
  stockloop-loadgen relay --postgres-url postgres://postgres@localhost/postgres --brokers localhost:9092 --scenarios drain --instances 1,2,4
  stockloop-loadgen relay --postgres-url postgres://postgres@localhost/postgres --scenarios in-the-way --rows 1000000
  stockloop-loadgen relay --sqlite-dir /tmp/bench --rows 20000 --obstacles nothing,exhausted,paused")]
pub(crate) struct Arguments {
    /// Measure on this PostgreSQL, whose user may make databases and checkpoints
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
    /// Measure on SQLite, with a file made in this directory; one instance only
    #[arg(long, value_name = "DIR")]
    sqlite_dir: Option<PathBuf>,
    /// The broker, host:port [default: one inside this process]
    #[arg(long)]
    brokers: Option<String>,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(2..=64))]
    partitions: i32,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "drain,in-the-way")]
    scenarios: Vec<Scenario>,
    /// Events in the backlog, and rows in the way
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// Events that one step of the relay sends at the most
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Bytes per payload
    #[arg(long, default_value_t = 245)]
    payload: usize,
    /// Runs per case
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// drain: how many instances
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    instances: Vec<usize>,
    /// drain: events that may be SENT in one partition, where that is looked at
    #[arg(long, default_value_t = 5_000)]
    cap: usize,
    /// in-the-way: what is in the way
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "nothing,exhausted,sent,full,paused,snapshot,writer"
    )]
    obstacles: Vec<Obstacle>,
    /// in-the-way: events that are committed and sent one by one
    #[arg(long, default_value_t = 200)]
    singles: usize,
    /// Give a run up after this many seconds of relaying
    #[arg(long, default_value_t = 600)]
    limit_seconds: u64,
}

impl Arguments {
    fn places(&self) -> Result<Vec<Place>> {
        let positive = [self.rows, self.batch, self.repeat, self.cap, self.singles];
        ensure!(
            positive.iter().chain(&self.instances).all(|number| *number > 0),
            "--rows, --batch, --repeat, --instances, --cap and --singles must be above 0"
        );
        places(self.postgres_url.as_deref(), self.sqlite_dir.as_deref())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_seconds)
    }

    /// Events that a run of `in-the-way` sends.
    fn own_events(&self) -> usize {
        (1 + STEPS) * self.batch + self.singles
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A backlog, until all of it is SENT.
    Drain,
    /// Steps and single events, with rows in the way.
    InTheWay,
}

/// What lies in the way of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Obstacle {
    /// Nothing: what the others are compared with.
    Nothing,
    /// EXHAUSTED events.
    Exhausted,
    /// SENT events.
    Sent,
    /// PENDING events of a partition that is full.
    Full,
    /// PENDING events of a key that is paused.
    Paused,
    /// Rows that were deleted, and that a snapshot from before still sees.
    Snapshot,
    /// The same under a transaction that has written: the relay's positions can't pass it (PostgreSQL only).
    Writer,
}

/// Steps that are measured after a relay's first.
const STEPS: usize = 5;

const TOPIC: &str = "stockloop-relay-benchmark";

/// No cap at all.
const UNLIMITED: usize = 1 << 40;

/// As a service has it.
const LEASE: Duration = Duration::from_secs(15);

/// For runs of one instance, where a heartbeat would only disturb.
const LONG_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// As the engine has it.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long an instance that has nothing to do waits, unless it is woken.
const SWEEP: Duration = Duration::from_millis(100);

/// How long nothing is sent before it counts as standing still.
const STALLED: Duration = Duration::from_millis(300);

/// Runs the scenarios and prints their tables.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(arguments, |report| report.print()))
}

/// Runs the scenarios on each database; hands each table over as soon as it is there.
async fn measure(arguments: &Arguments, mut show: impl FnMut(Report)) -> Result<()> {
    let (places, env) = (arguments.places()?, Env::system());
    let broker = Broker::find(arguments).await?;
    for place in &places {
        let bench = Bench { arguments, place, broker: &broker, env: env.clone() };
        for scenario in &arguments.scenarios {
            match scenario {
                Scenario::Drain => {
                    show(bench.drain().await?);
                    let (report, highest) = bench.keep_cap().await?;
                    show(report);
                    ensure!(
                        highest <= arguments.cap as f64,
                        "a partition held {highest} SENT events, more than its cap"
                    );
                }
                Scenario::InTheWay => show(bench.in_the_way().await?),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use clap::Parser;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;
    use tempfile::TempDir;

    use diesel::prelude::*;

    use super::*;
    use crate::report::quantile;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        relay: Arguments,
    }

    /// A place to measure on: an empty folder, or a database of the server to be beside.
    struct RelayFixture {
        folder: TempDir,
        database: TestDatabase,
    }

    impl RelayFixture {
        fn new(database: TestDatabase) -> Self {
            Self { folder: tempfile::tempdir().unwrap(), database }
        }

        fn is_postgres(&self) -> bool {
            self.database.url().starts_with("postgres")
        }

        async fn measure(&self, more: &[&str]) -> Result<Vec<Report>> {
            let (option, place) = match self.is_postgres() {
                true => ("--postgres-url", self.database.url()),
                false => ("--sqlite-dir", self.folder.path().display().to_string()),
            };
            let small =
                ["test", option, &place, "--rows", "330", "--batch", "20", "--singles", "3"];
            let arguments = Cli::try_parse_from(small.iter().chain(more)).unwrap().relay;
            let mut reports = Vec::new();
            measure(&arguments, |report| reports.push(report)).await?;
            // Whatever was made is gone.
            match &arguments.places().unwrap()[0] {
                Place::Postgres { url, .. } => assert!(PgConnection::establish(url).is_err()),
                Place::Sqlite { file } => assert!(!file.exists()),
            }
            Ok(reports)
        }
    }

    on_every_database!(RelayFixture::new =>
        a_backlog_drains_and_keeps_its_cap,
        all_obstacles_are_passed_by,
        what_can_not_be_measured_is_refused,
    );

    async fn a_backlog_drains_and_keeps_its_cap(fixture: RelayFixture) {
        let small_cap = ["--scenarios", "drain", "--cap", "20", "--repeat", "2"];
        let reports = fixture.measure(&small_cap).await.unwrap();
        let [drained, kept] = reports.as_slice() else { panic!("{} reports", reports.len()) };
        assert_eq!(drained.lines.len(), if fixture.is_postgres() { 2 } else { 1 });
        assert!(drained.lines.iter().all(|(_, figures)| figures[0] > 0.0 && figures[1] > 0.0));
        let highest = kept.lines[0].1[0];
        assert!((1.0..=20.0).contains(&highest), "{highest}");
    }

    async fn all_obstacles_are_passed_by(fixture: RelayFixture) {
        let reports = fixture.measure(&["--scenarios", "in-the-way"]).await.unwrap();
        let names: Vec<&str> = reports[0].lines.iter().map(|(name, _)| name.as_str()).collect();
        let all = ["nothing", "exhausted", "sent", "full", "paused", "snapshot", "writer"];
        assert_eq!(names, if fixture.is_postgres() { &all[..] } else { &all[..6] });
        for (name, figures) in &reports[0].lines {
            assert!(figures.iter().all(|figure| *figure > 0.0), "{name}: {figures:?}");
        }
        assert!(reports[0].lines[0].1.iter().skip(1).step_by(2).all(|ratio| *ratio == 1.0));
    }

    async fn what_can_not_be_measured_is_refused(fixture: RelayFixture) {
        let error = fixture.measure(&["--instances", "0"]).await.err().unwrap().to_string();
        assert!(error.contains("--instances"), "{error}");
        let nowhere = Cli::try_parse_from(["test"]).unwrap().relay;
        let error = measure(&nowhere, |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("--postgres-url"), "{error}");
    }

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile((1..=200).map(f64::from).collect(), 0.99), 199.0);
        assert_eq!(quantile(vec![1.0], 0.99), 1.0);
    }
}
