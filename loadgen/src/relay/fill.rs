//! Events: many at once that the database makes by itself, or appended as a service does.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use common::db::{Db, DbError};
use common::event::{EventKind, EventType, NewEvent};
use common::telemetry::Spans;
use engine::outbox::{Outbox, SHARDS, partition_of, shard_of};

use super::Arguments;
use super::bench::Bench;

pub(super) const SNAPSHOT: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };

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

pub(super) fn make_payload(bytes: usize) -> String {
    let empty = r#"{"note":""}"#.len();
    format!(r#"{{"note":"{}"}}"#, "x".repeat(bytes.saturating_sub(empty)))
}

/// Events that the database makes by itself: how many, and the SQL of the key and shard of number `n`, which begins at 1.
pub(super) struct Rows {
    pub(super) count: usize,
    pub(super) key: String,
    pub(super) shard: String,
}

impl Rows {
    /// Over all shards; each key has one.
    pub(super) fn spread(count: usize) -> Self {
        let key = format!("'SKU-' || (n % {})", i32::from(SHARDS) * 78);
        Self { count, key, shard: format!("(n % {SHARDS})") }
    }

    /// In the shards of the first partition.
    pub(super) fn in_first_partition(count: usize, partitions: i32) -> Self {
        let shards = (0..SHARDS).filter(|shard| partition_of(*shard, partitions) == 0).count();
        let shard = format!("(n % {shards} * {partitions})");
        Self { count, key: format!("'SKU-' || (n % {})", shards * 78), shard }
    }

    pub(super) fn of_key(count: usize, key: &str) -> Self {
        Self { count, key: format!("'{key}'"), shard: shard_of(key).to_string() }
    }
}

/// Where open events lie.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Pending,
    Sent,
    Exhausted,
}

impl Table {
    /// The insert of what was made, to be ended by a condition.
    pub(super) fn insert(self, shard: &str, partitions: i32, size: usize) -> String {
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
