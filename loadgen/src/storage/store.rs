//! What is benchmarked: the layouts, the events, and what a store does with them.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::ValueEnum;
use uuid::Uuid;

use super::report::Metrics;

/// Shards an event's key hashes to.
pub(super) const SHARDS: i16 = 8;
/// Status of an event that was sent.
pub(super) const SENT: i16 = 1;
/// Status and outcome of an event that was acknowledged.
pub(super) const PROCESSED: i16 = 2;

/// How the tables are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
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
    /// A table for each place of an open event, an index on (shard, transaction, id) where it is PENDING; read shard by
    /// shard (PostgreSQL).
    G,
}

impl Layout {
    /// Whether all of an event is in one row.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::A | Self::As)
    }

    /// Whether the relay reads one shard at a time.
    pub(super) fn reads_by_shard(self) -> bool {
        matches!(self, Self::As | Self::C | Self::G)
    }
}

/// An event to insert.
pub(super) struct Event {
    pub(super) id: Uuid,
    pub(super) key: String,
    pub(super) shard: i16,
    pub(super) version: i64,
    pub(super) payload: String,
}

/// An event the relay has read and, once it is marked, sent.
pub(super) struct Relayed {
    pub(super) id: Uuid,
    pub(super) seq: i64,
    pub(super) attempt: i32,
    pub(super) partition: i32,
}

impl Relayed {
    /// The partition stands for the client's use of key and payload.
    pub(super) fn new(id: Uuid, seq: i64, attempt: i32, key: &str, payload: &str) -> Self {
        Self { id, seq, attempt, partition: (key.len() + payload.len()) as i32 % 12 }
    }
}

/// Where a store reads next.
#[derive(Default)]
pub(super) struct Cursor {
    /// The shard, for layouts that read one at a time.
    pub(super) shard: i16,
    /// The lowest id that may be open, for the layout that starts reading there.
    pub(super) lowest_open: Uuid,
}

impl Cursor {
    /// Goes on to the next shard.
    pub(super) fn next_shard(&mut self) {
        self.shard = (self.shard + 1) % SHARDS;
    }

    /// Passes by what was settled: in this benchmark's order of acks, what is open is above it.
    pub(super) fn pass_by(&mut self, settled: &[Relayed]) {
        self.lowest_open = settled.iter().map(|event| event.id).max().unwrap_or(self.lowest_open);
    }
}

/// One layout on one database.
pub(super) trait Store {
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

/// `count` events that look like inventory snapshots, `payload` bytes each.
pub(super) fn make_events(first: usize, count: usize, payload: usize) -> Vec<Event> {
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
pub(super) fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_asked_size() {
        assert!(make_events(0, 50, 245).iter().all(|event| event.payload.len() == 245));
    }
}
