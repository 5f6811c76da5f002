//! Benchmark of outbox layouts: insert, relay and settle through diesel.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use self::postgres::Plans;
use self::report::{Metric, Metrics, Row};
use self::sqlite::{Ids, Style};

mod postgres;
mod report;
mod sqlite;
mod statement;

/// Shards an event's key hashes to.
const SHARDS: i16 = 8;
/// Events per transaction in the "small" part of the insert phase.
const SMALL: usize = 25;
const SENT: i16 = 1;
const PROCESSED: i16 = 2;

/// How the tables are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// One wide row, partial index on (id) where PENDING.
    A,
    /// One wide row, partial index on (shard, id) where PENDING; read shard by shard.
    As,
    /// Payload appended once, a narrow row per open event without an index on its status.
    B,
    /// As b, with pages filled completely (PostgreSQL) or the payload clustered by id (SQLite).
    Bx,
    /// As b, with a partial index on (shard, id) where PENDING; read shard by shard.
    C,
    /// As b, with a sequence number as the key of the open row.
    D,
    /// As b, but a SUCCESS deletes the open row at once instead of locking and loading it first.
    E,
    /// As b, but the relay starts reading at the lowest id it knows to be open.
    F,
}

/// Compares layouts of the outbox on PostgreSQL and SQLite.
///
/// Every run inserts a backlog, relays it in batches (read PENDING in order, mark SENT by
/// compare-and-set) and settles it (PROCESSED) a few batches behind. Statements are prepared
/// while the tables are empty, the backlog comes afterwards and statistics are never refreshed
/// by hand, so a plan that goes bad shows up as a slow run. Runs of different cases take turns;
/// the table shows medians in µs per event. PostgreSQL tables live in a schema of their own,
/// SQLite files in a directory; both are removed after each run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen storage --sqlite-dir /tmp/bench --rows 200000 --repeat 3
  stockloop-loadgen storage --postgres-url postgres://postgres@localhost/postgres --layouts b,c
  stockloop-loadgen storage --postgres-url ... --layouts b --plans auto,custom,generic,unnamed
  stockloop-loadgen storage --sqlite-dir /tmp/bench --group-commit")]
pub(crate) struct Arguments {
    /// Measure on this PostgreSQL
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
    /// Measure on SQLite, with files made in this directory
    #[arg(long, value_name = "DIR")]
    sqlite_dir: Option<PathBuf>,
    /// Layouts to compare
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,as,b,c,d,f")]
    layouts: Vec<Layout>,
    /// Events in the backlog
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Events per batch
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Batches sent and unacknowledged before the first is settled
    #[arg(long, default_value_t = 4)]
    lag: usize,
    /// Bytes per payload
    #[arg(long, default_value_t = 245)]
    payload: usize,
    /// Runs per case
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// PostgreSQL: how statements get their plans
    #[arg(long, value_enum, value_delimiter = ',', default_value = "index")]
    plans: Vec<Plans>,
    /// PostgreSQL: keep autovacuum (and its statistics) away from the tables
    #[arg(long)]
    no_autovacuum: bool,
    /// SQLite: how ids are stored
    #[arg(long, value_enum, value_delimiter = ',', default_value = "blob")]
    ids: Vec<Ids>,
    /// SQLite: how a batch reaches its statements
    #[arg(long, value_enum, value_delimiter = ',', default_value = "values")]
    styles: Vec<Style>,
    /// SQLite: page cache in MiB
    #[arg(long, default_value_t = 8)]
    sqlite_cache: u32,
    /// SQLite: measure only one-change inserts with group commit
    #[arg(long)]
    group_commit: bool,
    /// Stop relaying a case after this many seconds
    #[arg(long, default_value_t = 600)]
    limit_seconds: u64,
    /// Also write every run to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// An event to insert.
struct Event {
    id: Uuid,
    key: String,
    shard: i16,
    version: i64,
    payload: String,
}

/// An event the relay has read and, once it is marked, sent.
struct Relayed {
    id: Uuid,
    seq: i64,
    attempt: i32,
    partition: i32,
}

/// One layout on one database.
trait Store {
    /// Inserts the events in one transaction.
    fn insert(&mut self, events: &[Event], now: i64) -> Result<()>;
    /// Reads due PENDING events with their payloads, in order.
    fn read(&mut self, limit: usize, now: i64) -> Result<Vec<Relayed>>;
    /// PENDING at n−1 → SENT at n; returns how many were.
    fn mark(&mut self, batch: &[Relayed], now: i64) -> Result<usize>;
    /// Settles acknowledged events in one transaction; returns how many were.
    fn settle(&mut self, batch: &[Relayed], now: i64) -> Result<usize>;
    /// Bytes of WAL written so far, where that can be told.
    fn written(&mut self) -> Result<Option<i64>>;
    /// The database's process that works for this connection, if it is one of its own.
    fn process(&mut self) -> Result<Option<i32>>;
    /// Adds sizes and the like after the last phase.
    fn finish(&mut self, metrics: &mut Metrics) -> Result<()>;
}

/// A store that is still to be made, so that cases can take turns.
struct Case<'a> {
    open: Box<dyn Fn() -> Result<Box<dyn Store>> + 'a>,
    row: Row,
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rows > 0 && arguments.batch > 0, "--rows and --batch must be above 0");
    if arguments.group_commit {
        let directory = arguments.sqlite_dir.as_ref().context("--group-commit: --sqlite-dir?")?;
        return sqlite::group_commit(directory, arguments.sqlite_cache, arguments.repeat);
    }
    let mut cases = cases(arguments);
    ensure!(!cases.is_empty(), "give --postgres-url, --sqlite-dir or both");
    for round in 1..=arguments.repeat {
        for case in &mut cases {
            let bar =
                progress(&format!("{round}/{} {}", arguments.repeat, case.row.case), arguments);
            let mut store = (case.open)()?;
            case.row.add(measure(store.as_mut(), arguments, &bar).context(case.row.case.clone())?);
            bar.finish_and_clear();
        }
    }
    let rows: Vec<Row> = cases.into_iter().map(|case| case.row).collect();
    report::print(&rows);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn cases(arguments: &Arguments) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for &layout in &arguments.layouts {
        let name = format!("{layout:?}").to_lowercase();
        if let Some(url) = &arguments.postgres_url {
            for &plans in &arguments.plans {
                let autovacuum = !arguments.no_autovacuum;
                cases.push(Case {
                    open: Box::new(move || postgres::open(url, layout, plans, autovacuum)),
                    row: Row::new(format!("postgres {name} {plans:?}").to_lowercase()),
                });
            }
        }
        if let Some(directory) = &arguments.sqlite_dir {
            for (&ids, &style) in
                arguments.ids.iter().flat_map(|ids| arguments.styles.iter().map(move |s| (ids, s)))
            {
                let cache = arguments.sqlite_cache;
                cases.push(Case {
                    open: Box::new(move || sqlite::open(directory, layout, ids, style, cache)),
                    row: Row::new(format!("sqlite {name} {ids:?} {style:?}").to_lowercase()),
                });
            }
        }
    }
    cases
}

/// Time and events of one phase, batch by batch.
#[derive(Default)]
struct Phase {
    batches: Vec<(Duration, usize)>,
    wal: i64,
}

impl Phase {
    fn time<T>(&mut self, events: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work()?;
        self.batches.push((start.elapsed(), events));
        Ok(result)
    }

    fn events(&self) -> usize {
        self.batches.iter().map(|(_, events)| events).sum()
    }

    fn micros(&self) -> f64 {
        micros(&self.batches)
    }

    fn wal(&self) -> f64 {
        self.wal as f64 / self.events().max(1) as f64
    }

    fn first_and_last(&self) -> (f64, f64) {
        let tenth = (self.batches.len() / 10).max(1).min(self.batches.len());
        (micros(&self.batches[..tenth]), micros(&self.batches[self.batches.len() - tenth..]))
    }
}

/// µs per event.
fn micros(batches: &[(Duration, usize)]) -> f64 {
    let events: usize = batches.iter().map(|(_, events)| events).sum();
    let time: Duration = batches.iter().map(|(time, _)| *time).sum();
    time.as_secs_f64() * 1e6 / events.max(1) as f64
}

/// One run of all phases.
fn measure(store: &mut dyn Store, arguments: &Arguments, bar: &ProgressBar) -> Result<Metrics> {
    warm_up(store, arguments.batch)?;
    let written = |store: &mut dyn Store| store.written().map(Option::unwrap_or_default);

    let (mut small, mut insert) = (Phase::default(), Phase::default());
    let small_rows = (arguments.rows / 10).min(5_000);
    let mut made = 0;
    let mut wal = written(store)?;
    let process = store.process()?;
    let mut cpu = Some(0);
    while made < arguments.rows {
        let (phase, size) = match made < small_rows {
            true => (&mut small, SMALL),
            false => (&mut insert, arguments.batch),
        };
        let size = size.min(arguments.rows - made);
        let events = make(made, size, arguments.payload);
        phase.time(size, || store.insert(&events, now()?))?;
        made += size;
        bar.inc(size as u64);
        if made == small_rows {
            wal = written(store)?;
            cpu = cpu_nanos(process);
        }
    }
    insert.wal = written(store)? - wal;

    let (mut read, mut mark, mut settle) = (Phase::default(), Phase::default(), Phase::default());
    let mut waiting: VecDeque<Vec<Relayed>> = VecDeque::new();
    let started = Instant::now();
    wal = written(store)?;
    loop {
        let (batch, elapsed) = timed(|| store.read(arguments.batch, now()?))?;
        let full = !batch.is_empty() && started.elapsed().as_secs() < arguments.limit_seconds;
        if full {
            read.batches.push((elapsed, batch.len()));
            let marked = mark.time(batch.len(), || store.mark(&batch, now()?))?;
            ensure!(marked == batch.len(), "marked {marked} of {}", batch.len());
            bar.inc(batch.len() as u64);
            waiting.push_back(batch);
        }
        let relayed = written(store)?;
        mark.wal += relayed - wal;
        if waiting.len() > if full { arguments.lag } else { 0 }
            && let Some(batch) = waiting.pop_front()
        {
            let settled = settle.time(batch.len(), || store.settle(&batch, now()?))?;
            ensure!(settled == batch.len(), "settled {settled} of {}", batch.len());
            bar.inc(batch.len() as u64);
        }
        wal = written(store)?;
        settle.wal += wal - relayed;
        if !full && waiting.is_empty() {
            break;
        }
    }

    let cpu_spent = cpu_nanos(process);

    let relay = Phase {
        batches: (read.batches.iter().zip(&mark.batches))
            .map(|((reading, events), (marking, _))| (*reading + *marking, *events))
            .collect(),
        wal: mark.wal,
    };
    let (relay_first, relay_last) = relay.first_and_last();
    let (settle_first, settle_last) = settle.first_and_last();
    let mut metrics = Metrics::from([
        (Metric::InsertSmall, small.micros()),
        (Metric::Insert, insert.micros()),
        (Metric::Read, read.micros()),
        (Metric::Mark, mark.micros()),
        (Metric::Settle, settle.micros()),
        (Metric::Total, insert.micros() + relay.micros() + settle.micros()),
        (Metric::RelayFirst, relay_first),
        (Metric::RelayLast, relay_last),
        (Metric::SettleFirst, settle_first),
        (Metric::SettleLast, settle_last),
        (Metric::Events, settle.events() as f64),
    ]);
    if store.written()?.is_some() {
        metrics.extend([
            (Metric::WalInsert, insert.wal()),
            (Metric::WalRelay, relay.wal()),
            (Metric::WalSettle, settle.wal()),
            (Metric::WalTotal, insert.wal() + relay.wal() + settle.wal()),
        ]);
    }
    store.finish(&mut metrics)?;
    if let (Some(before), Some(after)) = (cpu, cpu_spent) {
        let micros = after.saturating_sub(before) as f64 / 1e3;
        metrics.insert(Metric::Cpu, micros / arguments.rows as f64);
    }
    if let Some(size) = metrics.get_mut(&Metric::Size) {
        *size /= arguments.rows as f64;
    }
    Ok(metrics)
}

/// Runs every hot statement on the empty tables until its plan is cached.
fn warm_up(store: &mut dyn Store, batch: usize) -> Result<()> {
    let strangers: Vec<Relayed> = (0..batch)
        .map(|_| Relayed { id: Uuid::now_v7(), seq: -1, attempt: 0, partition: 0 })
        .collect();
    for _ in 0..10 {
        store.insert(&[], now()?)?;
        let found = store.read(batch, now()?)?.len();
        let touched = store.mark(&strangers, now()?)? + store.settle(&strangers, now()?)?;
        ensure!(found + touched == 0, "the tables are not empty");
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    work().map(|result| (result, start.elapsed()))
}

/// CPU time of this thread and of the database's process, where the system tells (Linux).
///
/// Unlike elapsed time it doesn't grow when others use the machine.
fn cpu_nanos(process: Option<i32>) -> Option<u64> {
    let spent = |of: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{of}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let database = match process {
        Some(process) => spent(&process.to_string())?,
        None => 0,
    };
    Some(spent("thread-self")? + database)
}

/// `count` events that look like inventory snapshots, `payload` bytes each.
fn make(first: usize, count: usize, payload: usize) -> Vec<Event> {
    (first..first + count)
        .map(|number| {
            // A multiplicative hash spreads keys over shards as a real one would.
            let hash = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let key = format!("SKU-{:08}", hash % 100_000_000);
            let mut text = format!(
                r#"{{"sku":"{key}","version":{number},"on_hand":{},"reserved":{},"note":""#,
                hash % 1_000,
                hash % 7
            );
            let fill = payload.saturating_sub(text.len() + 2);
            text.extend(std::iter::repeat_n('x', fill));
            text.push_str("\"}");
            Event {
                id: Uuid::now_v7(),
                key,
                shard: (hash % SHARDS as u64) as i16,
                version: number as i64,
                payload: text,
            }
        })
        .collect()
}

/// µs since 1970, as the tables keep them.
fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

fn progress(name: &str, arguments: &Arguments) -> ProgressBar {
    let bar = ProgressBar::new(arguments.rows as u64 * 3);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        storage: Arguments,
    }

    #[test]
    fn every_layout_drains_on_sqlite() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().display().to_string();
        let cli = Cli::try_parse_from([
            "test",
            "--sqlite-dir",
            &path,
            "--layouts",
            "a,as,b,bx,c,d,e,f",
            "--ids",
            "text,blob",
            "--styles",
            "rows,json,values",
            "--rows",
            "330",
            "--batch",
            "20",
        ])?;
        let cases = cases(&cli.storage);
        assert_eq!(cases.len(), 8 * 2 * 3);
        for case in cases {
            let mut store = (case.open)()?;
            let metrics = measure(store.as_mut(), &cli.storage, &ProgressBar::hidden())
                .context(case.row.case)?;
            assert_eq!(metrics.get(&Metric::Events), Some(&330.0));
        }
        Ok(())
    }

    #[test]
    fn payloads_have_the_asked_size() {
        assert!(make(0, 50, 245).iter().all(|event| event.payload.len() == 245));
    }
}
