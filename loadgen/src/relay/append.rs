//! Events that are appended as a service does it.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use common::db::{Db, DbError};
use common::event::NewEvent;
use common::telemetry::Spans;
use engine::outbox::{Outbox, partition_of, shard_of};

use crate::backlog::{SNAPSHOT, make_payload};

use super::Arguments;
use super::bench::Bench;

/// Appends events as a service does, with keys of all partitions but the first.
pub(super) struct Appender {
    outbox: Outbox,
    keys: Vec<String>,
    payload: String,
    next: AtomicUsize,
}

impl Appender {
    pub(super) fn new(bench: &Bench<'_>) -> Self {
        let Arguments { partitions, payload, .. } = *bench.arguments;
        Self {
            outbox: Outbox::new(bench.env.clone(), 5, Spans::off(bench.env.clone())),
            keys: keys("K", partitions).take(1_000).collect(),
            payload: make_payload(payload),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) async fn append(&self, db: &Db, events: usize) -> Result<()> {
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
pub(super) fn keys(prefix: &str, partitions: i32) -> impl Iterator<Item = String> {
    let keys = (0..).map(move |number: u32| format!("{prefix}{number}"));
    keys.filter(move |key| partition_of(shard_of(key), partitions) != 0)
}
