//! One instance of a service, as far as the relay goes, and several at once.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::db::{Db, DbError};
use common::on;
use common::schema::outbox_sent;
use diesel::prelude::*;
use engine::outbox::{LeaseSet, Relay, RelayOutcome, renew};
use indicatif::ProgressBar;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::SWEEP;

/// One relay with all that an instance of a service has of its own.
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) db: Db,
    pub(super) relay: Relay,
    pub(super) woken: Arc<Notify>,
    pub(super) lease: Duration,
    pub(super) held: Mutex<LeaseSet>,
}

impl Instance {
    pub(super) async fn renew(&self) -> Result<(), DbError> {
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
    pub(super) async fn send(&self, events: usize, limit: Duration) -> Result<Duration> {
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
pub(super) struct Progress {
    pub(super) rows: usize,
    pub(super) sent: AtomicUsize,
    pub(super) limit: Duration,
    pub(super) bar: ProgressBar,
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
pub(super) async fn drain(fleet: &[Arc<Instance>], progress: &Arc<Progress>) -> Result<Duration> {
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
pub(super) async fn watch(db: &Db, most: &AtomicI64, looks: &AtomicI64) -> Result<Infallible> {
    loop {
        most.fetch_max(highest(db).await?, Ordering::Relaxed);
        looks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many events are SENT in the partition that has the most.
pub(super) async fn highest(db: &Db) -> Result<i64, DbError> {
    use outbox_sent as s;
    let counted = s::table.group_by(s::partition).select(diesel::dsl::count(s::id));
    let counts: Vec<i64> =
        db.read::<_, DbError>(move |conn| Ok(on!(conn, c => counted.load(c))?)).await?;
    Ok(counts.into_iter().max().unwrap_or(0))
}
