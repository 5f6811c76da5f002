//! One run: a backlog is inserted, relayed and settled, and each phase is timed.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use uuid::Uuid;

use super::report::{Metric, Metrics};
use super::store::{Relayed, Store, make_events, now};

/// Events per transaction in the "small" part of the insert phase.
const SMALL: usize = 25;

/// What every run does.
#[derive(Debug, Args)]
pub(super) struct Workload {
    /// Events in the backlog
    #[arg(long, default_value_t = 1_000_000)]
    pub(super) rows: usize,
    /// Events per batch
    #[arg(long, default_value_t = 1_000)]
    pub(super) batch: usize,
    /// Batches sent and unacknowledged before the first is settled
    #[arg(long, default_value_t = 4)]
    lag: usize,
    /// Bytes per payload
    #[arg(long, default_value_t = 245)]
    payload: usize,
    /// Stop relaying a case after this many seconds
    #[arg(long, default_value_t = 600)]
    limit_seconds: u64,
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

/// All phases of a run.
struct Phases {
    insert_small: Phase,
    insert: Phase,
    read: Phase,
    mark: Phase,
    settle: Phase,
}

/// Runs all phases on empty tables.
pub(super) fn measure(
    store: &mut dyn Store,
    workload: &Workload,
    bar: &ProgressBar,
) -> Result<Metrics> {
    warm_up(store, workload.batch)?;
    let process = store.process()?;
    let small_rows = (workload.rows / 10).min(5_000);
    let insert_small = insert(store, workload, 0..small_rows, SMALL, bar)?;
    let cpu_before = cpu_nanos(process);
    let insert = insert(store, workload, small_rows..workload.rows, workload.batch, bar)?;
    let (read, mark, settle) = drain(store, workload, bar)?;
    let cpu_after = cpu_nanos(process);

    let mut metrics =
        Phases { insert_small, insert, read, mark, settle }.metrics(store.written()?.is_some());
    store.finish(&mut metrics)?;
    if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
        let micros = after.saturating_sub(before) as f64 / 1e3;
        metrics.insert(Metric::Cpu, micros / workload.rows as f64);
    }
    if let Some(size) = metrics.get_mut(&Metric::Size) {
        *size /= workload.rows as f64;
    }
    Ok(metrics)
}

/// Runs every hot statement on the empty tables until its plan is cached.
fn warm_up(store: &mut dyn Store, batch: usize) -> Result<()> {
    let unknown: Vec<Relayed> = (0..batch)
        .map(|_| Relayed { id: Uuid::now_v7(), seq: -1, attempt: 0, partition: 0 })
        .collect();
    for _ in 0..10 {
        store.insert(&[], now()?)?;
        let found = store.read(batch, now()?)?.len();
        let touched = store.mark(&unknown, now()?)? + store.settle(&unknown, now()?)?;
        ensure!(found + touched == 0, "the tables are not empty");
    }
    Ok(())
}

/// Inserts the events with these numbers, so many in each transaction.
fn insert(
    store: &mut dyn Store,
    workload: &Workload,
    numbers: Range<usize>,
    per_transaction: usize,
    bar: &ProgressBar,
) -> Result<Phase> {
    let mut phase = Phase::default();
    let wal = written(store)?;
    let mut made = numbers.start;
    while made < numbers.end {
        let size = per_transaction.min(numbers.end - made);
        let events = make_events(made, size, workload.payload);
        phase.time(size, || store.insert(&events, now()?))?;
        made += size;
        bar.inc(size as u64);
    }
    phase.wal = written(store)? - wal;
    Ok(phase)
}

/// Relays the backlog and settles it a few batches behind: the phases read, mark and settle.
fn drain(
    store: &mut dyn Store,
    workload: &Workload,
    bar: &ProgressBar,
) -> Result<(Phase, Phase, Phase)> {
    let (mut read, mut mark, mut settle) = (Phase::default(), Phase::default(), Phase::default());
    let mut unacknowledged: VecDeque<Vec<Relayed>> = VecDeque::new();
    let started = Instant::now();
    let mut wal = written(store)?;
    loop {
        let (batch, elapsed) = timed(|| store.read(workload.batch, now()?))?;
        let more = !batch.is_empty() && started.elapsed().as_secs() < workload.limit_seconds;
        if more {
            read.batches.push((elapsed, batch.len()));
            let marked = mark.time(batch.len(), || store.mark(&batch, now()?))?;
            ensure!(marked == batch.len(), "marked {marked} of {}", batch.len());
            bar.inc(batch.len() as u64);
            unacknowledged.push_back(batch);
        }
        let relayed = written(store)?;
        mark.wal += relayed - wal;
        if unacknowledged.len() > if more { workload.lag } else { 0 }
            && let Some(batch) = unacknowledged.pop_front()
        {
            let settled = settle.time(batch.len(), || store.settle(&batch, now()?))?;
            ensure!(settled == batch.len(), "settled {settled} of {}", batch.len());
            bar.inc(batch.len() as u64);
        }
        wal = written(store)?;
        settle.wal += wal - relayed;
        if !more && unacknowledged.is_empty() {
            return Ok((read, mark, settle));
        }
    }
}

impl Phases {
    fn metrics(&self, with_wal: bool) -> Metrics {
        let (insert, relay, settle) = (&self.insert, self.relay(), &self.settle);
        let (relay_first, relay_last) = relay.first_and_last();
        let (settle_first, settle_last) = settle.first_and_last();
        let mut metrics = Metrics::from([
            (Metric::InsertSmall, self.insert_small.micros()),
            (Metric::Insert, insert.micros()),
            (Metric::Read, self.read.micros()),
            (Metric::Mark, self.mark.micros()),
            (Metric::Settle, settle.micros()),
            (Metric::Total, insert.micros() + relay.micros() + settle.micros()),
            (Metric::RelayFirst, relay_first),
            (Metric::RelayLast, relay_last),
            (Metric::SettleFirst, settle_first),
            (Metric::SettleLast, settle_last),
            (Metric::Events, settle.events() as f64),
        ]);
        if with_wal {
            metrics.extend([
                (Metric::WalInsert, insert.wal()),
                (Metric::WalRelay, relay.wal()),
                (Metric::WalSettle, settle.wal()),
                (Metric::WalTotal, insert.wal() + relay.wal() + settle.wal()),
            ]);
        }
        metrics
    }

    /// Reading and marking together.
    fn relay(&self) -> Phase {
        let both = self.read.batches.iter().zip(&self.mark.batches);
        let batches = both.map(|((reading, events), (marking, _))| (*reading + *marking, *events));
        Phase { batches: batches.collect(), wal: self.mark.wal }
    }
}

fn written(store: &mut dyn Store) -> Result<i64> {
    store.written().map(Option::unwrap_or_default)
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
