//! The relay measured on a real database and broker: how fast a backlog drains, whether caps hold, and what a step costs
//! with much in its way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use common::config::KafkaSettings;
use common::db::{Conn, DatabaseSettings, Db, DbError, ENGINE_MIGRATIONS, Pooler};
use common::env::Env;
use common::event::{EventKind, EventType, NewEvent};
use common::on;
use common::retry::Backoff;
use common::schema::{outbox_failed, outbox_pending, outbox_sent};
use common::telemetry::{BrokerState, Spans};
use diesel::prelude::*;
use engine::kafka::{EmbeddedBroker, Message, Producer, ensure_topics};
use engine::outbox::pause::{self, PauseRow};
use engine::outbox::{
    InFlight, LeaseSet, Outbox, Policy, Relay, RelayOutcome, RelayParts, SHARDS, partition_of,
    renew, shard_of,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Measures the relay in this process, on a real database and a real broker.
///
/// `drain` relays a backlog with one instance and with several, each with its own connections, producer, leases and
/// tasks; then again with the caps of a service, while something settles, and says how many events were SENT in one
/// partition at the most. `in-the-way` says what a step and a single event cost while many rows lie around that the relay
/// has no business with: `first` is the first step of a new relay, `step` the median of five later ones (each of --batch
/// events), p50 and p99 are from the commit of one event until it is SENT. Figures of time are in ms.
///
/// Cases take turns; the tables show medians, and ratios to the first line. Every run has a database of its own: on a
/// PostgreSQL server one beside the database of the URL, named after it with `_relay_benchmark` behind, in a folder
/// `relay-benchmark.db`. It is made anew and removed at the end. The topic `stockloop-relay-benchmark` stays on a broker.
/// The embedded broker runs in this process and shares its processors: take a real one to compare instances.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen relay --postgres-url postgres://postgres@localhost/postgres --repeat 3
  stockloop-loadgen relay --postgres-url ... --brokers localhost:9092 --scenarios drain --instances 1,2,4
  stockloop-loadgen relay --postgres-url ... --scenarios in-the-way --rows 1000000
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
        let mut places = Vec::new();
        places.extend(self.postgres_url.as_deref().map(Place::beside).transpose()?);
        places.extend(self.sqlite_dir.as_deref().map(Place::within).transpose()?);
        ensure!(!places.is_empty(), "give --postgres-url, --sqlite-dir or both");
        Ok(places)
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

/// What every run works with.
struct Bench<'a> {
    arguments: &'a Arguments,
    place: &'a Place,
    broker: &'a Broker,
    env: Env,
}

impl Bench<'_> {
    async fn drain(&self) -> Result<Report> {
        let instances = self.instances();
        let names = instances.iter().map(|number| format!("{number} instance(s)")).collect();
        let rows = self.arguments.rows;
        let cases = self.take_turns(names, rows, async |case, bar| {
            let scratch = self.place.make()?;
            self.fill_backlog(&scratch)?;
            let fleet = self.fleet(&scratch, instances[case], UNLIMITED).await?;
            let took = drain(&fleet, &self.progress(bar)).await?;
            Ok(vec![rows as f64 / took.as_secs_f64()])
        });
        Ok(Report::compared(self.title("drain", rows), &[("events/s", 0)], &cases.await?))
    }

    /// Drains with caps while something settles; also returns how many events were SENT in one partition at the most.
    async fn keep_cap(&self) -> Result<(Report, f64)> {
        let Arguments { rows, cap, .. } = *self.arguments;
        let most = self.instances().into_iter().max().unwrap_or(1);
        let cases = self.take_turns(vec![format!("{most} instance(s)")], rows, async |_, bar| {
            let scratch = self.place.make()?;
            self.fill_backlog(&scratch)?;
            let fleet = self.fleet(&scratch, most, cap).await?;
            let (db, progress) = (scratch.open()?, self.progress(bar));
            let (highest, looks) = (AtomicI64::new(0), AtomicI64::new(0));
            tokio::select! {
                drained = drain(&fleet, &progress) => drop(drained?),
                failed = watch(&db, &highest, &looks) => match failed? {},
                failed = self.settle(&db, &progress) => match failed? {},
            }
            Ok(vec![highest.into_inner() as f64, cap as f64, looks.into_inner() as f64])
        });
        let cases = cases.await?;
        let highest =
            cases.iter().flat_map(|case| &case.runs).map(|run| run[0]).fold(0.0, f64::max);
        let figures = cases
            .iter()
            .map(|case| (case.name.clone(), vec![highest, case.median(1), case.median(2)]));
        let report = Report {
            title: self.title("SENT in one partition, at the most,", rows),
            columns: vec![("highest", 0), ("cap", 0), ("looks", 0)],
            lines: figures.collect(),
        };
        Ok((report, highest))
    }

    async fn in_the_way(&self) -> Result<Report> {
        let obstacles: Vec<Obstacle> = self
            .arguments
            .obstacles
            .iter()
            .copied()
            .filter(|obstacle| *obstacle != Obstacle::Writer || self.place.is_postgres())
            .collect();
        let names =
            obstacles.iter().map(|obstacle| format!("{obstacle:?}").to_lowercase()).collect();
        let cases = self.take_turns(names, self.arguments.own_events(), async |case, bar| {
            self.pass_by(obstacles[case], bar).await
        });
        let columns = [("first", 1), ("step", 1), ("p50", 2), ("p99", 2)];
        let title = self.title("in the way", self.arguments.rows);
        Ok(Report::compared(title, &columns, &cases.await?))
    }

    /// One run: the first step, the median of later ones, and the latencies of single events, in ms.
    async fn pass_by(&self, obstacle: Obstacle, bar: &ProgressBar) -> Result<Vec<f64>> {
        let scratch = self.place.make()?;
        let db = scratch.open()?;
        let held_open = self.put_in_the_way(obstacle, &scratch)?;
        let cap = if obstacle == Obstacle::Full { self.arguments.own_events() } else { UNLIMITED };
        let instance = self.instance(&scratch, "alone".to_owned(), cap, LONG_LEASE).await?;
        instance.renew().await?;
        let appender = Appender::new(self);
        let (mut steps, mut singles) = (Vec::new(), Vec::new());
        let sizes = std::iter::repeat_n(self.arguments.batch, 1 + STEPS)
            .chain(std::iter::repeat_n(1, self.arguments.singles));
        for (number, size) in sizes.enumerate() {
            appender.append(&db, size).await?;
            let took = instance.send(size, self.arguments.limit()).await?.as_secs_f64() * 1e3;
            if number <= STEPS {
                steps.push(took)
            } else {
                singles.push(took)
            }
            bar.inc(size as u64);
        }
        self.check_untouched(obstacle, &db).await?;
        drop(held_open);
        let first = steps.remove(0);
        Ok(vec![
            first,
            quantile(steps, 0.5),
            quantile(singles.clone(), 0.5),
            quantile(singles, 0.99),
        ])
    }

    /// Fills the database; what is returned keeps a transaction open.
    fn put_in_the_way(&self, obstacle: Obstacle, scratch: &Scratch<'_>) -> Result<Option<Conn>> {
        let Arguments { rows: count, partitions, .. } = *self.arguments;
        let (mut conn, spread) = (scratch.connect()?, Rows::spread(count));
        let mut held_open = None;
        match obstacle {
            Obstacle::Nothing => {}
            Obstacle::Exhausted => self.fill(&mut conn, &spread, &[(Table::Exhausted, "true")])?,
            Obstacle::Sent => self.fill(&mut conn, &spread, &[(Table::Sent, "true")])?,
            Obstacle::Full => {
                let cap = self.arguments.own_events();
                let (sent, pending) = (format!("n <= {cap}"), format!("n > {cap}"));
                let rows = Rows::in_first_partition(count + cap, partitions);
                self.fill(&mut conn, &rows, &[(Table::Sent, &sent), (Table::Pending, &pending)])?;
            }
            Obstacle::Paused => {
                let key = keys("PAUSED", partitions).next().context("there is no such key")?;
                let rows = Rows::of_key(count, &key);
                self.fill(&mut conn, &rows, &[(Table::Pending, "true")])?;
                let (reason, by_whom) = ("measured".to_owned(), "loadgen".to_owned());
                pause::put(
                    &mut conn,
                    &PauseRow { key, reason, since_us: self.env.now(), by_whom },
                )?;
            }
            Obstacle::Snapshot => {
                self.fill(&mut conn, &spread, &[(Table::Pending, "true")])?;
                held_open = Some(scratch.hold_open(match self.place.is_postgres() {
                    true => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM outbox_pending LIMIT 1",
                    false => "BEGIN; SELECT 1 FROM outbox_pending LIMIT 1",
                })?);
                conn.batch_execute("DELETE FROM outbox_pending")?;
            }
            Obstacle::Writer => {
                held_open = Some(scratch.hold_open("BEGIN; SELECT pg_current_xact_id()")?);
                self.fill(&mut conn, &spread, &[(Table::Pending, "true")])?;
                conn.batch_execute("DELETE FROM outbox_pending")?;
            }
        }
        self.checkpoint(&mut conn)?;
        Ok(held_open)
    }

    /// Fails unless all own events are SENT and what was in the way still is.
    async fn check_untouched(&self, obstacle: Obstacle, db: &Db) -> Result<()> {
        let (rows, own) = (self.arguments.rows, self.arguments.own_events());
        let expected = match obstacle {
            Obstacle::Nothing | Obstacle::Snapshot | Obstacle::Writer => [0, own, 0],
            Obstacle::Exhausted => [0, own, rows],
            Obstacle::Sent => [0, own + rows, 0],
            Obstacle::Full => [rows, own + own, 0],
            Obstacle::Paused => [rows, own, 0],
        };
        let found: [i64; 3] = db
            .read::<_, DbError>(|conn| {
                Ok(on!(conn, c => [
                    outbox_pending::table.count().get_result(c)?,
                    outbox_sent::table.count().get_result(c)?,
                    outbox_failed::table.count().get_result(c)?,
                ]))
            })
            .await?;
        ensure!(
            found.map(|number| usize::try_from(number).ok()) == expected.map(Some),
            "{found:?} events are PENDING, SENT and EXHAUSTED in the end instead of {expected:?}: the figures mean nothing"
        );
        Ok(())
    }

    fn fill_backlog(&self, scratch: &Scratch<'_>) -> Result<()> {
        let mut conn = scratch.connect()?;
        self.fill(&mut conn, &Rows::spread(self.arguments.rows), &[(Table::Pending, "true")])?;
        self.checkpoint(&mut conn)
    }

    /// Each run starts right after one, so that full page images cost each the same.
    fn checkpoint(&self, conn: &mut Conn) -> Result<()> {
        conn.batch_execute(match self.place.is_postgres() {
            true => "CHECKPOINT",
            false => "PRAGMA wal_checkpoint(TRUNCATE)",
        })?;
        Ok(())
    }

    fn fill(&self, conn: &mut Conn, rows: &Rows, places: &[(Table, &str)]) -> Result<()> {
        let Arguments { partitions, payload, .. } = *self.arguments;
        let Rows { count, key, shard } = rows;
        let made = made(conn, *count, self.env.now().micros());
        let text = make_payload(payload);
        let mut inserts = vec![format!(
            "{made} INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us) \
             SELECT id, 0, '{}', {key}, 1, n, '{text}', at_us FROM made",
            SNAPSHOT.name
        )];
        for (table, which) in places {
            let insert = table.insert(shard, partitions, text.len());
            inserts.push(format!("{made} {insert} WHERE {which}"));
        }
        conn.transaction::<_, diesel::result::Error>(|conn| {
            inserts.iter().try_for_each(|insert| conn.batch_execute(insert))
        })?;
        Ok(())
    }

    /// As many instances, each with its fair share of the shards.
    async fn fleet(
        &self,
        scratch: &Scratch<'_>,
        instances: usize,
        cap: usize,
    ) -> Result<Vec<Arc<Instance>>> {
        let mut fleet = Vec::new();
        for number in 0..instances {
            let instance = self.instance(scratch, format!("instance-{number}"), cap, LEASE).await?;
            fleet.push(Arc::new(instance));
        }
        // Those that came first give back what is above their share, then the others take it.
        for _ in 0..3 {
            for instance in &fleet {
                instance.renew().await?;
            }
        }
        Ok(fleet)
    }

    /// A relay whose producer is connected; it holds no shards yet.
    async fn instance(
        &self,
        scratch: &Scratch<'_>,
        name: String,
        cap: usize,
        lease: Duration,
    ) -> Result<Instance> {
        let (db, woken) = (scratch.open()?, Arc::new(Notify::new()));
        let producer = Producer::new(&self.broker.settings, &name, BrokerState::default())?;
        let warm_up = |partition| Message {
            topic: TOPIC.to_owned(),
            partition: Some(partition),
            key: "warm-up".to_owned(),
            headers: Vec::new(),
            payload: b"{}".to_vec(),
        };
        let messages: Vec<Message> = (0..self.arguments.partitions).map(warm_up).collect();
        for sent in producer.send_all(&messages).await {
            sent?;
        }
        let relay = Relay::new(RelayParts {
            db: db.clone(),
            env: self.env.clone(),
            producer,
            policy: Policy {
                backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) },
                listener: None,
            },
            in_flight: InFlight::new(cap, UNLIMITED),
            spans: Spans::off(self.env.clone()),
            service: "relay-benchmark".to_owned(),
            topic: TOPIC.to_owned(),
            batch: self.arguments.batch,
            patience: PATIENCE,
            woken: Arc::clone(&woken),
        });
        // Without shards, a step only asks the broker how many partitions there are.
        let nothing = LeaseSet::nothing(name.clone());
        relay.run_once(&nothing).await?;
        Ok(Instance { name, db, relay, woken, lease, held: Mutex::new(nothing) })
    }

    /// Settles what is SENT, so that caps are reached again and again: only where one is reached, or nothing moves any
    /// more. Relays are not told.
    async fn settle(&self, db: &Db, progress: &Progress) -> Result<Infallible> {
        let Arguments { cap, partitions, .. } = *self.arguments;
        let some = (cap * partitions.unsigned_abs() as usize / 2).max(1);
        let delete = format!(
            "DELETE FROM outbox_sent WHERE id IN (SELECT id FROM outbox_sent ORDER BY id LIMIT {some})"
        );
        // Instances round their parts of a cap down.
        let full = (cap - cap / 100) as i64;
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            tokio::time::sleep(PATIENCE).await;
            let sent = progress.sent.load(Ordering::Relaxed);
            if sent != before {
                (before, moved) = (sent, Instant::now());
            }
            if moved.elapsed() > STALLED || highest(db).await? >= full {
                let delete = delete.clone();
                db.write::<_, DbError>(move |conn| Ok(conn.batch_execute(&delete)?)).await?;
                moved = Instant::now();
            }
        }
    }

    /// How many instances to measure; SQLite has room for one.
    fn instances(&self) -> Vec<usize> {
        match self.place.is_postgres() {
            true => self.arguments.instances.clone(),
            false => vec![1],
        }
    }

    fn progress(&self, bar: &ProgressBar) -> Arc<Progress> {
        let Arguments { rows, .. } = *self.arguments;
        let limit = self.arguments.limit();
        Arc::new(Progress { rows, limit, sent: AtomicUsize::new(0), bar: bar.clone() })
    }

    fn title(&self, what: &str, rows: usize) -> String {
        let (place, broker) = (self.place.name(), self.broker.name());
        format!("{what} of {rows} events, on {place} and {broker}")
    }

    /// Runs cases one after the other, and that again and again; a run sends `length` events.
    async fn take_turns(
        &self,
        names: Vec<String>,
        length: usize,
        run: impl AsyncFn(usize, &ProgressBar) -> Result<Vec<f64>>,
    ) -> Result<Vec<Case>> {
        let new = |name| Case { name, runs: Vec::new() };
        let mut cases: Vec<Case> = names.into_iter().map(new).collect();
        let repeat = self.arguments.repeat;
        for round in 1..=repeat {
            for (number, case) in cases.iter_mut().enumerate() {
                let bar = progress_bar(
                    format!("{round}/{repeat} {} {}", self.place.name(), case.name),
                    length,
                );
                case.runs.push(run(number, &bar).await.with_context(|| case.name.clone())?);
                bar.finish_and_clear();
            }
        }
        Ok(cases)
    }
}

/// One relay with all that an instance of a service has of its own.
struct Instance {
    name: String,
    db: Db,
    relay: Relay,
    woken: Arc<Notify>,
    lease: Duration,
    held: Mutex<LeaseSet>,
}

impl Instance {
    async fn renew(&self) -> Result<(), DbError> {
        let renewed = renew(&self.db, &self.name, self.lease).await?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    async fn keep_leases(&self) -> Result<Infallible> {
        loop {
            tokio::time::sleep(self.lease / 4).await;
            self.renew().await?;
        }
    }

    async fn step(&self) -> Result<RelayOutcome> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = self.relay.run_once(&held).await?;
        ensure!(outcome.refused == 0, "the broker refused {} events", outcome.refused);
        Ok(outcome)
    }

    /// Works until all is SENT, and keeps its shards; returns when it last did something.
    async fn work(self: Arc<Self>, progress: Arc<Progress>) -> Result<Instant> {
        tokio::select! {
            ended = self.relay_all(&progress) => ended,
            failed = self.keep_leases() => match failed? {},
        }
    }

    async fn relay_all(&self, progress: &Progress) -> Result<Instant> {
        let started = Instant::now();
        let mut last = started;
        while progress.is_more() {
            let outcome = self.step().await?;
            if outcome.sent > 0 {
                last = Instant::now();
                progress.add(outcome.sent);
            }
            ensure!(
                started.elapsed() < progress.limit,
                "not all events were SENT in time: {}",
                outcome.hindered.unwrap_or_else(|| "raise --limit-seconds".to_owned())
            );
            if outcome.drained {
                // Over at the end of its time or when a send is: either way it goes on.
                _ = tokio::time::timeout(SWEEP, self.woken.notified()).await;
            }
        }
        Ok(last)
    }

    /// Sends `events` that are committed; returns how long that took.
    async fn send(&self, events: usize, limit: Duration) -> Result<Duration> {
        let (started, mut sent) = (Instant::now(), 0);
        while sent < events {
            let outcome = self.step().await?;
            sent += outcome.sent;
            ensure!(
                started.elapsed() < limit,
                "only {sent} of {events} events were SENT in time: {}",
                outcome.hindered.unwrap_or_else(|| "raise --limit-seconds".to_owned())
            );
        }
        Ok(started.elapsed())
    }
}

/// How far all instances together are.
struct Progress {
    rows: usize,
    sent: AtomicUsize,
    limit: Duration,
    bar: ProgressBar,
}

impl Progress {
    fn is_more(&self) -> bool {
        self.sent.load(Ordering::Relaxed) < self.rows
    }

    fn add(&self, sent: usize) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.bar.inc(sent as u64);
    }
}

/// Lets all instances work until all is SENT; returns how long that took.
async fn drain(fleet: &[Arc<Instance>], progress: &Arc<Progress>) -> Result<Duration> {
    let started = Instant::now();
    let mut last = started;
    let mut tasks = JoinSet::new();
    for instance in fleet {
        tasks.spawn(Arc::clone(instance).work(Arc::clone(progress)));
    }
    while let Some(ended) = tasks.join_next().await {
        last = last.max(ended??);
    }
    Ok(last - started)
}

/// Looks again and again how many events are SENT in one partition.
async fn watch(db: &Db, most: &AtomicI64, looks: &AtomicI64) -> Result<Infallible> {
    loop {
        most.fetch_max(highest(db).await?, Ordering::Relaxed);
        looks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many events are SENT in the partition that has the most.
async fn highest(db: &Db) -> Result<i64, DbError> {
    use outbox_sent as s;
    let counted = s::table.group_by(s::partition).select(diesel::dsl::count(s::id));
    let counts: Vec<i64> =
        db.read::<_, DbError>(move |conn| Ok(on!(conn, c => counted.load(c))?)).await?;
    Ok(counts.into_iter().max().unwrap_or(0))
}

const SNAPSHOT: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };

/// Appends events as a service does, with keys of all partitions but the first.
struct Appender {
    outbox: Outbox,
    keys: Vec<String>,
    payload: String,
    next: AtomicUsize,
}

impl Appender {
    fn new(bench: &Bench<'_>) -> Self {
        let Arguments { partitions, payload, .. } = *bench.arguments;
        Self {
            outbox: Outbox::new(bench.env.clone(), 5, Spans::off(bench.env.clone())),
            keys: keys("K", partitions).take(1_000).collect(),
            payload: make_payload(payload),
            next: AtomicUsize::new(0),
        }
    }

    async fn append(&self, db: &Db, events: usize) -> Result<()> {
        let events: Vec<NewEvent> = (0..events).map(|_| self.event()).collect();
        let outbox = self.outbox.clone();
        db.write::<_, DbError>(move |conn| Ok(outbox.append(conn, events)?)).await?;
        Ok(())
    }

    fn event(&self) -> NewEvent {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        NewEvent {
            event_type: SNAPSHOT,
            key: self.keys[number % self.keys.len()].clone(),
            version: number as i64,
            payload: self.payload.clone(),
            traceparent: None,
        }
    }
}

/// Keys whose events go to any partition but the first.
fn keys(prefix: &str, partitions: i32) -> impl Iterator<Item = String> {
    let keys = (0..).map(move |number: u32| format!("{prefix}{number}"));
    keys.filter(move |key| partition_of(shard_of(key), partitions) != 0)
}

fn make_payload(bytes: usize) -> String {
    let empty = r#"{"note":""}"#.len();
    format!(r#"{{"note":"{}"}}"#, "x".repeat(bytes.saturating_sub(empty)))
}

/// Events that the database makes by itself: how many, and the SQL of the key and shard of number `n`, which begins at 1.
struct Rows {
    count: usize,
    key: String,
    shard: String,
}

impl Rows {
    /// Over all shards; each key has one.
    fn spread(count: usize) -> Self {
        let key = format!("'SKU-' || (n % {})", i32::from(SHARDS) * 78);
        Self { count, key, shard: format!("(n % {SHARDS})") }
    }

    /// In the shards of the first partition.
    fn in_first_partition(count: usize, partitions: i32) -> Self {
        let shards = (0..SHARDS).filter(|shard| partition_of(*shard, partitions) == 0).count();
        let shard = format!("(n % {shards} * {partitions})");
        Self { count, key: format!("'SKU-' || (n % {})", shards * 78), shard }
    }

    fn of_key(count: usize, key: &str) -> Self {
        Self { count, key: format!("'{key}'"), shard: shard_of(key).to_string() }
    }
}

/// Numbers, moments and ids of `count` events, the newest of them made now, a millisecond after the one before.
fn made(conn: &Conn, count: usize, now: i64) -> String {
    match conn {
        Conn::Pg(_) => format!(
            "WITH numbered AS (SELECT n, {now}::bigint - ({count} - n) * 1000 AS at_us \
               FROM generate_series(1::bigint, {count}::bigint) AS n), \
             made AS (SELECT n, at_us, (lpad(to_hex(at_us / 1000), 12, '0') || '70008' \
               || lpad(to_hex(n), 15, '0'))::uuid AS id FROM numbered)"
        ),
        Conn::Sqlite(_) => format!(
            "WITH RECURSIVE numbers(n) AS (\
               SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}), \
             numbered AS (SELECT n, {now} - ({count} - n) * 1000 AS at_us FROM numbers), \
             made AS (SELECT n, at_us, printf('%08x-%04x-7000-8000-%012x', \
               (at_us / 1000) >> 16, (at_us / 1000) & 65535, n) AS id FROM numbered)"
        ),
    }
}

/// Where open events lie.
#[derive(Clone, Copy)]
enum Table {
    Pending,
    Sent,
    Exhausted,
}

impl Table {
    /// The insert of what was made, to be ended by a condition.
    fn insert(self, shard: &str, partitions: i32, size: usize) -> String {
        match self {
            Self::Pending => format!(
                "INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size) \
                 SELECT id, {shard}, 5, at_us, {size} FROM made"
            ),
            Self::Sent => format!(
                "INSERT INTO outbox_sent (id, shard, attempt, attempt_limit, partition, sent_us, size) \
                 SELECT id, {shard}, 1, 5, {shard} % {partitions}, at_us, {size} FROM made"
            ),
            Self::Exhausted => format!(
                "INSERT INTO outbox_failed \
                   (id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, size) \
                 SELECT id, {shard}, 2, 5, 5, at_us, {shard} % {partitions}, at_us, {size} FROM made"
            ),
        }
    }
}

/// The broker and how to reach it.
struct Broker {
    settings: KafkaSettings,
    embedded: Option<EmbeddedBroker>,
}

impl Broker {
    /// The one that was named, or a new one, with the topic.
    async fn find(arguments: &Arguments) -> Result<Self> {
        let Arguments { partitions, .. } = *arguments;
        let (brokers, embedded) = match &arguments.brokers {
            Some(brokers) => (brokers.clone(), None),
            None => {
                let embedded = EmbeddedBroker::start()?;
                embedded.create_topic(TOPIC, partitions)?;
                (embedded.brokers(), Some(embedded))
            }
        };
        let settings = KafkaSettings {
            brokers,
            outbound_topic: TOPIC.to_owned(),
            outbound_ack_topic: String::new(),
            outbound_consumer: String::new(),
            inbound_topic: String::new(),
            inbound_ack_topic: String::new(),
            partitions,
            replication: -1,
            create_topics: true,
            properties: BTreeMap::new(),
        };
        if embedded.is_none() {
            ensure_topics(&settings, &[TOPIC], BrokerState::default()).await?;
        }
        let found = partitions_of(&settings).await?;
        ensure!(
            found == partitions,
            "the topic {TOPIC} has {found} partitions: delete it, or say --partitions {found}"
        );
        Ok(Self { settings, embedded })
    }

    fn name(&self) -> &'static str {
        if self.embedded.is_some() { "the embedded broker" } else { "a real broker" }
    }
}

/// What the broker says of the topic, which it may have made only now.
async fn partitions_of(settings: &KafkaSettings) -> Result<i32> {
    let producer = Producer::new(settings, "relay-benchmark", BrokerState::default())?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let asked = producer.clone();
        let answer = tokio::task::spawn_blocking(move || asked.partitions(TOPIC)).await?;
        match answer {
            Ok(partitions) => return Ok(partitions),
            Err(reason) => ensure!(Instant::now() < deadline, "{reason}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Where databases are made, one at a time.
enum Place {
    /// On a server: the URL by which to come in, and the database's name and URL.
    Postgres { server: String, name: String, url: String },
    /// In a file.
    Sqlite { file: PathBuf },
}

impl Place {
    /// A database beside the one of `server`.
    fn beside(server: &str) -> Result<Self> {
        let (address, options) = server.split_at(server.find('?').unwrap_or(server.len()));
        let parts = address.split_once("://");
        let (scheme, rest) =
            parts.context("--postgres-url: write postgres://user@host/database")?;
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let name = format!("{database}_relay_benchmark");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        ensure!(name.chars().all(is_plain), "--postgres-url: give a database with a plain name");
        let url = format!("{scheme}://{host}/{name}{options}");
        Ok(Self::Postgres { server: server.to_owned(), name, url })
    }

    /// A file in `folder`, which is made if need be.
    fn within(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} can't be made", folder.display()))?;
        Ok(Self::Sqlite { file: folder.join("relay-benchmark.db") })
    }

    fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    fn name(&self) -> &'static str {
        if self.is_postgres() { "PostgreSQL" } else { "SQLite" }
    }

    /// An empty database with the engine's tables.
    fn make(&self) -> Result<Scratch<'_>> {
        self.remove()?;
        if let Self::Postgres { server, name, .. } = self {
            execute(server, &format!("CREATE DATABASE \"{name}\""))?;
        }
        let scratch = Scratch(self);
        scratch.open()?.migrate(&[ENGINE_MIGRATIONS])?;
        Ok(scratch)
    }

    /// Removes what is there.
    fn remove(&self) -> Result<()> {
        match self {
            Self::Postgres { server, name, .. } => {
                execute(server, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))
            }
            Self::Sqlite { file } => ["", "-wal", "-shm"].iter().try_for_each(|end| {
                let file = format!("{}{end}", file.display());
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("{file} can't be removed"))
                    }
                    _ => Ok(()),
                }
            }),
        }
    }
}

fn execute(server: &str, statement: &str) -> Result<()> {
    let mut conn = Conn::Pg(PgConnection::establish(server)?);
    conn.batch_execute("SET client_min_messages = warning")?;
    conn.batch_execute(statement)?;
    Ok(())
}

/// A database that goes when its run is over.
struct Scratch<'a>(&'a Place);

impl Scratch<'_> {
    /// With a pool of its own.
    fn open(&self) -> Result<Db> {
        let url = match self.0 {
            Place::Postgres { url, .. } => url.clone(),
            Place::Sqlite { file } => format!("sqlite:{}", file.display()),
        };
        let (pool_size, connect_timeout) = (4, Duration::from_secs(10));
        let settings = DatabaseSettings {
            url: url.into(),
            pooler: Pooler::None,
            pool_size,
            loop_pool_size: 4,
            connect_timeout,
        };
        Ok(Db::open(&settings)?)
    }

    /// One connection.
    fn connect(&self) -> Result<Conn> {
        Ok(match self.0 {
            Place::Postgres { url, .. } => Conn::Pg(PgConnection::establish(url)?),
            Place::Sqlite { file } => {
                Conn::Sqlite(SqliteConnection::establish(&file.display().to_string())?)
            }
        })
    }

    /// A connection that has begun a transaction and does not end it.
    fn hold_open(&self, begin: &str) -> Result<Conn> {
        let mut conn = self.connect()?;
        conn.batch_execute(begin)?;
        Ok(conn)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("a database of this benchmark was left behind: {error:#}");
        }
    }
}

/// What is measured and compared with others, and the figures of its runs.
struct Case {
    name: String,
    runs: Vec<Vec<f64>>,
}

impl Case {
    /// Of one figure, over all runs.
    fn median(&self, figure: usize) -> f64 {
        quantile(self.runs.iter().filter_map(|run| run.get(figure).copied()).collect(), 0.5)
    }
}

/// The value that this part of all `values` lies below; NaN of none.
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A table; columns have digits behind the point.
struct Report {
    title: String,
    columns: Vec<(&'static str, usize)>,
    lines: Vec<(String, Vec<f64>)>,
}

impl Report {
    /// The medians of each figure, each followed by its ratio to that of the first case.
    fn compared(title: String, figures: &[(&'static str, usize)], cases: &[Case]) -> Self {
        let line = |case: &Case| {
            let compare = |figure| {
                let first = cases.first().map_or(f64::NAN, |first| first.median(figure));
                [case.median(figure), case.median(figure) / first]
            };
            (case.name.clone(), (0..figures.len()).flat_map(compare).collect())
        };
        let columns = figures.iter().flat_map(|figure| [*figure, ("ratio", 2)]).collect();
        Self { title, columns, lines: cases.iter().map(line).collect() }
    }

    fn print(&self) {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        println!("{}\n", self.title);
        print!("{:width$}", "case");
        self.columns.iter().for_each(|(heading, _)| print!(" {heading:>9}"));
        println!();
        for (name, figures) in &self.lines {
            print!("{name:width$}");
            for (&(_, digits), figure) in self.columns.iter().zip(figures) {
                print!(" {figure:>9.digits$}");
            }
            println!();
        }
        println!();
    }
}

fn progress_bar(name: String, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar.tick();
    bar
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use clap::Parser;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;
    use tempfile::TempDir;

    use super::*;

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
