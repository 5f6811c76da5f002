//! The scenarios, run by run.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::on;
use common::schema::{outbox_failed, outbox_pending, outbox_sent};
use common::telemetry::{BrokerState, Spans};
use diesel::prelude::*;
use engine::kafka::{Message, Producer};
use engine::outbox::{FirstAttempts, InFlight, LeaseSet, Relay, RelayParts};
use indicatif::ProgressBar;
use tokio::sync::Notify;

use crate::backlog::{Rows, Table, checkpoint, fill, pause_relays, policy};
use crate::place::{Place, Scratch};
use crate::report::{Case, Report, quantile, take_turns};

use super::append::{Appender, keys};
use super::broker::Broker;
use super::instance::{Instance, Progress, drain, highest, watch};
use super::{Arguments, LEASE, LONG_LEASE, Obstacle, PATIENCE, STALLED, STEPS, TOPIC, UNLIMITED};

/// What every run works with.
pub(super) struct Bench<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) place: &'a Place,
    pub(super) broker: &'a Broker,
    pub(super) env: Env,
}

impl Bench<'_> {
    pub(super) async fn drain(&self) -> Result<Report> {
        let instances = self.instances();
        let names = instances.iter().map(|number| format!("{number} instance(s)")).collect();
        let rows = self.arguments.rows;
        let cases = self.turns(names, rows, async |case, bar| {
            let scratch = self.place.make()?;
            self.fill_backlog(&scratch)?;
            let fleet = self.fleet(&scratch, instances[case], UNLIMITED).await?;
            let took = drain(&fleet, &self.progress(bar)).await?;
            Ok(vec![rows as f64 / took.as_secs_f64()])
        });
        Ok(Report::compared(self.title("drain", rows), &[("events/s", 0)], &cases.await?))
    }

    /// Drains with caps while something settles; also returns how many events were SENT in one partition at the most.
    pub(super) async fn keep_cap(&self) -> Result<(Report, f64)> {
        let Arguments { rows, cap, .. } = *self.arguments;
        let most = self.instances().into_iter().max().unwrap_or(1);
        let cases = self.turns(vec![format!("{most} instance(s)")], rows, async |_, bar| {
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

    pub(super) async fn in_the_way(&self) -> Result<Report> {
        let obstacles: Vec<Obstacle> = self
            .arguments
            .obstacles
            .iter()
            .copied()
            .filter(|obstacle| *obstacle != Obstacle::Writer || self.place.is_postgres())
            .collect();
        let names =
            obstacles.iter().map(|obstacle| format!("{obstacle:?}").to_lowercase()).collect();
        let cases = self.turns(names, self.arguments.own_events(), async |case, bar| {
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
                pause_relays(&mut conn, &key, self.env.now())?;
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
        checkpoint(&mut conn)?;
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
        Ok(checkpoint(&mut conn)?)
    }

    fn fill(&self, conn: &mut Conn, rows: &Rows, places: &[(Table, &str)]) -> Result<()> {
        let Arguments { partitions, payload, .. } = *self.arguments;
        Ok(fill(conn, rows, places, partitions, payload, self.env.now())?)
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
            first_attempts: FirstAttempts::Ours,
            producer: Arc::new(producer),
            policy: policy(),
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

    async fn turns(
        &self,
        names: Vec<String>,
        length: usize,
        run: impl AsyncFn(usize, &ProgressBar) -> Result<Vec<f64>>,
    ) -> Result<Vec<Case>> {
        take_turns(self.place.name(), names, self.arguments.repeat, length, run).await
    }
}
