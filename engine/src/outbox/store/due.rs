//! What the relay reads: due events, and up to which transaction all of them are there.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::db::{Backend, Conn, Kept, column, json_list};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{outbox_failed, outbox_pending, service_state};
use diesel::prelude::*;
use diesel::result::Error::DeserializationError;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::append::shard_of;
use super::super::log::Ended;
use super::super::pause::{self, Paused};
use super::super::position::Position;

/// A PENDING event that is due, with all that its message needs.
#[derive(Debug, Clone, QueryableByName)]
pub(in crate::outbox) struct DueRow {
    #[diesel(sql_type = EventIdSql)]
    pub(in crate::outbox) id: EventId,
    #[diesel(sql_type = SmallInt)]
    pub(in crate::outbox) shard: i16,
    #[diesel(sql_type = Integer)]
    pub(in crate::outbox) attempt: i32,
    #[diesel(sql_type = Integer)]
    pub(in crate::outbox) size: i32,
    /// The transaction that appended it; 0 where it was sent before.
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) tx: i64,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) event_type: String,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) key: String,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) epoch: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) version: i64,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(in crate::outbox) traceparent: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) created_us: Timestamp,
}

/// Which of the events that were never sent are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) enum Fresh {
    /// All of them.
    All,
    /// Those that were committed until then, by their writers' clocks.
    Until(Timestamp),
    /// None.
    Nothing,
}

/// A shard that is read, from where, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::outbox) struct ShardRead {
    pub(in crate::outbox) shard: i16,
    pub(in crate::outbox) after: Position,
    pub(in crate::outbox) limit: i64,
}

/// The oldest due events of each of `shards`, in the order of these, up to `limit` that were never sent and as many
/// whose backoff is over. Only what is returned is walked: see [`super::super::position`].
///
/// What was never sent is due at once, also where its writer's clock is ahead; only a backoff makes an event wait. Of
/// what was never sent, only what transactions appended that have `ended` is looked for, or such as there never were
/// here: a dump brings the numbers of its server along.
pub(in crate::outbox) fn due(
    conn: &mut Conn,
    (now, fresh): (Timestamp, Fresh),
    shards: &[ShardRead],
    ended: Option<&Ended>,
    paused: &[String],
    limit: usize,
) -> QueryResult<Vec<DueRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // What is too young is left out of the page, not of the walk: that ends where the page does.
    let (fresh_limit, until) = match fresh {
        Fresh::All => (limit, Timestamp::from_micros(i64::MAX)),
        Fresh::Until(until) => (limit, until),
        Fresh::Nothing => (0, now),
    };
    let mut rows: Vec<DueRow> = match conn {
        Conn::Pg(c) => {
            let page = sql_query(format!(
                // The page is cut before its events are looked up, each by its id, so that no plan, however stale its
                // statistics, joins the whole backlog. The first unused number is of the page's own snapshot: with an
                // earlier one, what has begun since would pass.
                "WITH shards AS (SELECT * FROM unnest($1, $2, $3, $4) AS s (shard, tx, id, room)), \
                 page AS MATERIALIZED (\
                   (SELECT p.id, p.shard, 0 AS attempt, p.size, p.tx FROM shards s CROSS JOIN LATERAL (\
                      SELECT o.id, o.shard, o.size, o.tx, o.due_us FROM outbox_pending o \
                      WHERE o.shard = s.shard AND (o.tx, o.id) > (s.tx, s.id) \
                        AND (o.tx < $8 AND o.tx <> ALL($9) OR o.tx >= {FIRST_UNUSED}) AND {allowed} \
                      ORDER BY o.tx, o.id LIMIT s.room) p WHERE p.due_us <= $11 LIMIT $10) \
                   UNION ALL \
                   (SELECT p.* FROM shards s CROSS JOIN LATERAL (\
                      SELECT o.id, o.shard, o.attempt, o.size, 0::bigint AS tx FROM outbox_failed o \
                      WHERE o.status = 0 AND o.shard = s.shard AND o.due_us <= $7 AND {allowed} \
                      ORDER BY o.due_us, o.id LIMIT s.room) p LIMIT $6)) \
                 SELECT page.id, shard, attempt, size, tx, \
                   event_type, key, epoch, version, payload, traceparent, created_us \
                 FROM page CROSS JOIN LATERAL (SELECT * FROM outbox_event o WHERE o.id = page.id LIMIT 1) e",
                allowed = allowed(paused, Backend::Postgres, 5),
            ))
            .bind::<Array<SmallInt>, _>(column(shards, |s| s.shard))
            .bind::<Array<BigInt>, _>(column(shards, |s| s.after.tx))
            .bind::<Array<EventIdSql>, _>(column(shards, |s| s.after.id))
            .bind::<Array<BigInt>, _>(column(shards, |s| s.limit))
            .bind::<Array<Text>, _>(paused)
            .bind::<BigInt, _>(limit)
            .bind::<BigInt, _>(now)
            .bind::<BigInt, _>(ended.map_or(i64::MAX, |ended| ended.xmax))
            .bind::<Array<BigInt>, _>(ended.map_or(&[][..], |ended| &ended.running))
            .bind::<BigInt, _>(fresh_limit)
            .bind::<BigInt, _>(until);
            // One way leads to what is due, however much there is. With paused keys, the text is another one each time.
            if paused.is_empty() { Kept::of(page).load(c)? } else { page.load(c)? }
        }
        // Only PostgreSQL has a log that could bring the others.
        Conn::Sqlite(c) => sql_query(format!(
            // Parameters stand in the order of their numbers, for SQLite's sake. The index gives the order: a page that is
            // cut holds the first of its last shard, as positions need it.
            "SELECT page.id, shard, attempt, size, tx, \
               event_type, key, epoch, version, payload, traceparent, created_us \
             FROM (SELECT id, shard, attempt, size, tx FROM (\
                   SELECT o.id, o.shard, 0 AS attempt, o.size, o.tx, o.due_us \
                   FROM json_each($1) s CROSS JOIN outbox_pending o INDEXED BY outbox_pending_shard \
                   WHERE o.shard = s.value ->> 0 AND (o.tx, o.id) > (s.value ->> 1, s.value ->> 2) AND {allowed} \
                   LIMIT $3) WHERE due_us <= $4 \
                   UNION ALL \
                   SELECT * FROM (SELECT p.id, p.shard, p.attempt, p.size, 0 AS tx \
                   FROM json_each($1) s CROSS JOIN outbox_failed p \
                   WHERE p.id IN (SELECT o.id FROM outbox_failed o WHERE o.status = 0 AND o.shard = s.value ->> 0 \
                                    AND o.due_us <= $5 AND {allowed} \
                                  ORDER BY o.due_us, o.id LIMIT $6) LIMIT $6)) page \
             CROSS JOIN outbox_event e ON e.id = page.id",
            allowed = allowed(paused, Backend::Sqlite, 2),
        ))
        .bind::<Text, _>(json_list(&column(shards, |s| (s.shard, s.after.tx, s.after.id)))?)
        .bind::<Text, _>(json_list(paused)?)
        .bind::<BigInt, _>(fresh_limit)
        .bind::<BigInt, _>(until)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(limit)
        .load(c)?,
    };
    // Sorted here: with ORDER BY, index plans would walk all events in their order and look each up in the page.
    rows.sort_unstable_by_key(|row| (row.tx, row.id));
    Ok(rows)
}

/// The first transaction that had not begun when the statement did; computed once.
const FIRST_UNUSED: &str = "(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)";

/// How the database stands, as one statement sees it.
///
/// Asked before a page is read: what a later snapshot sees is no less.
#[derive(Debug)]
pub(in crate::outbox) struct Snapshot {
    /// What is paused.
    pub(in crate::outbox) paused: Paused,
    /// The transactions that have ended. Only PostgreSQL runs several at a time.
    pub(in crate::outbox) ended: Option<Ended>,
    /// The oldest transaction that may still append an event: all that older ones appended is there.
    pub(in crate::outbox) horizon: i64,
    /// When the server was started, in microseconds, which tells it from another one; 0 where there is none.
    pub(in crate::outbox) started: i64,
}

/// What has to be known before anything is sent, in one round trip.
pub(in crate::outbox) fn snapshot(conn: &mut Conn) -> QueryResult<Snapshot> {
    #[derive(QueryableByName)]
    struct Seen {
        #[diesel(sql_type = Text)]
        ended: String,
        #[diesel(sql_type = BigInt)]
        started: i64,
        #[diesel(sql_type = Array<Text>)]
        paused: Vec<String>,
    }
    match conn {
        Conn::Pg(c) => {
            let seen: Seen = Kept::of(sql_query(
                "SELECT pg_current_snapshot()::text AS ended, \
                   (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started, \
                   ARRAY(SELECT key FROM relay_pause ORDER BY key) AS paused",
            ))
            .get_result(c)?;
            let unknown = |()| DeserializationError(format!("a snapshot {:?}", seen.ended).into());
            let ended: Ended = seen.ended.parse().map_err(unknown)?;
            let (paused, horizon, started) = (Paused::of(seen.paused), ended.xmin, seen.started);
            Ok(Snapshot { paused, ended: Some(ended), horizon, started })
        }
        Conn::Sqlite(c) => {
            // One writer: what is counted is committed.
            let appended: i64 = service_state::table.select(service_state::appended).first(c)?;
            let (paused, horizon, started) = (pause::all(conn)?, appended + 1, 0);
            Ok(Snapshot { paused, ended: None, horizon, started })
        }
    }
}

/// The condition that keeps the `paused` keys, parameter number `parameter`, out of rows that are called `o`.
///
/// Only rows in those keys' shards are looked up, each by its id: a scalar subquery leaves the planner no choice,
/// whatever it believes of the tables. A page is cut after that, so a paused backlog takes no place in it.
pub(super) fn allowed(paused: &[String], backend: Backend, parameter: usize) -> String {
    let shards = numbers(paused.iter().map(|key| shard_of(key)));
    let key = "(SELECT e.key FROM outbox_event e WHERE e.id = o.id)";
    match (backend, paused) {
        (Backend::Postgres, []) => format!("cardinality(${parameter}::text[]) = 0"),
        (Backend::Postgres, _) => {
            format!("(o.shard NOT IN ({shards}) OR {key} <> ALL(${parameter}))")
        }
        (Backend::Sqlite, []) => format!("json_array_length(${parameter}) = 0"),
        (Backend::Sqlite, _) => format!(
            "(o.shard NOT IN ({shards}) OR {key} NOT IN (SELECT value FROM json_each(${parameter})))"
        ),
    }
}

pub(super) fn numbers(shards: impl Iterator<Item = i16>) -> String {
    let distinct: BTreeSet<i16> = shards.collect();
    distinct.iter().map(i16::to_string).collect::<Vec<_>>().join(",")
}

/// Whether an event waits to be sent since `before` or longer.
pub(in crate::outbox) fn any_pending(conn: &mut Conn, before: Timestamp) -> QueryResult<bool> {
    use {outbox_failed as f, outbox_pending as p};
    let fresh = p::table.filter(p::id.lt(EventId::first_at(before))).select(p::id).order(p::id);
    let again = f::table.filter(f::status.eq(0).and(f::due_us.le(before))).select(f::id);
    on!(conn, c => Ok(fresh.first::<EventId>(c).optional()?.is_some()
        || again.first::<EventId>(c).optional()?.is_some()))
}

/// When the oldest event was committed that was never sent, by its writer's clock.
pub(in crate::outbox) fn oldest_fresh(conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
    use outbox_pending as p;
    on!(conn, c => p::table.order(p::id).select(p::due_us).first(c).optional())
}

/// A SENT event's message again: for probes.
pub(in crate::outbox) fn message_of(conn: &mut Conn, id: EventId) -> QueryResult<Option<DueRow>> {
    let sql = "SELECT o.id, shard, attempt, size, CAST(0 AS BIGINT) AS tx, \
                 event_type, key, epoch, version, payload, traceparent, created_us \
               FROM outbox_sent o JOIN outbox_event e ON e.id = o.id WHERE o.id = $1";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(id).get_result(c).optional())
}
