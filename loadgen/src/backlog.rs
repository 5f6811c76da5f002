//! Many events at once, that the database makes by itself.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventKind, EventType};
use common::retry::Backoff;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use engine::outbox::pause::{self, PauseRow};
use engine::outbox::{Policy, SHARDS, partition_of, shard_of};

use crate::made::made;

pub(crate) const SNAPSHOT: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };

pub(crate) fn make_payload(bytes: usize) -> String {
    let empty = r#"{"note":""}"#.len();
    format!(r#"{{"note":"{}"}}"#, "x".repeat(bytes.saturating_sub(empty)))
}

/// The rules' numbers, as a service has them.
pub(crate) fn policy() -> Policy {
    let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };
    Policy { backoff, listener: None }
}

/// Makes `rows`, each in the tables whose condition on `made` it meets.
pub(crate) fn fill(
    conn: &mut Conn,
    rows: &Rows,
    places: &[(Table, &str)],
    partitions: i32,
    payload: usize,
    now: Timestamp,
) -> QueryResult<()> {
    let Rows { count, key, shard } = rows;
    let made = made(conn, *count as i64, now.micros());
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
    conn.transaction(|conn| inserts.iter().try_for_each(|insert| conn.batch_execute(insert)))
}

/// Each run starts right after one, so that full page images cost each the same.
pub(crate) fn checkpoint(conn: &mut Conn) -> QueryResult<()> {
    conn.batch_execute(match conn {
        Conn::Pg(_) => "CHECKPOINT",
        Conn::Sqlite(_) => "PRAGMA wal_checkpoint(TRUNCATE)",
    })
}

/// Leaves a PostgreSQL as autovacuum does: else that would be done while it is measured. Ends with a checkpoint.
pub(crate) fn tidy(conn: &mut Conn) -> QueryResult<()> {
    conn.batch_execute("VACUUM ANALYZE")?;
    checkpoint(conn)
}

/// Has relays leave the events of `key`, or of [`pause::EVERYTHING`], alone, as an operator does.
pub(crate) fn pause_relays(conn: &mut Conn, key: &str, since_us: Timestamp) -> QueryResult<()> {
    let (key, reason, by_whom) = (key.to_owned(), "measured".to_owned(), "loadgen".to_owned());
    pause::put(conn, &PauseRow { key, reason, since_us, by_whom }).map(drop)
}

/// How much PostgreSQL's log holds by now; none, SQLite's does not count.
pub(crate) fn log_bytes(conn: &mut Conn) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Bytes {
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let Conn::Pg(c) = conn else { return Ok(0) };
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS bytes";
    let Bytes { bytes } = sql_query(sql).get_result(c)?;
    Ok(bytes)
}

/// Events that the database makes by itself: how many, and the SQL of the key and shard of number `n`, which begins at 1.
pub(crate) struct Rows {
    pub(crate) count: usize,
    pub(crate) key: String,
    pub(crate) shard: String,
}

impl Rows {
    /// Over all shards; each key has one.
    pub(crate) fn spread(count: usize) -> Self {
        let key = format!("'SKU-' || (n % {})", i32::from(SHARDS) * 78);
        Self { count, key, shard: format!("(n % {SHARDS})") }
    }

    /// In the shards of the first partition.
    pub(crate) fn in_first_partition(count: usize, partitions: i32) -> Self {
        let shards = (0..SHARDS).filter(|shard| partition_of(*shard, partitions) == 0).count();
        let shard = format!("(n % {shards} * {partitions})");
        Self { count, key: format!("'SKU-' || (n % {})", shards * 78), shard }
    }

    pub(crate) fn of_key(count: usize, key: &str) -> Self {
        Self { count, key: format!("'{key}'"), shard: shard_of(key).to_string() }
    }
}

/// Where open events lie.
#[derive(Clone, Copy)]
pub(crate) enum Table {
    Pending,
    Sent,
    Exhausted,
}

impl Table {
    /// The insert of what was made, to be ended by a condition.
    pub(crate) fn insert(self, shard: &str, partitions: i32, size: usize) -> String {
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
