//! What the relay reads and notes: due events, its fence, what the broker confirmed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{outbox_open, outbox_partition, relay_lease};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::append::shard_of;
use super::super::lease::LeaseSet;
use super::IdRow;

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
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) event_type: String,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) key: String,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) epoch: i64,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(in crate::outbox) traceparent: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) created_us: Timestamp,
}

/// A send that the broker confirmed.
#[derive(Debug, Clone, Copy)]
pub(in crate::outbox) struct SentRow {
    pub(in crate::outbox) id: EventId,
    pub(in crate::outbox) shard: i16,
    /// The number of the attempt that was sent.
    pub(in crate::outbox) attempt: i32,
    pub(in crate::outbox) partition: i32,
    pub(in crate::outbox) offset: Option<i64>,
    pub(in crate::outbox) sent_us: Timestamp,
}

/// The oldest due events of `shards`, found by status (commit order is not id order, so nothing is skipped).
///
/// What was never sent is due at once, also where its writer's clock is ahead; only a backoff makes an event wait.
pub(in crate::outbox) fn due(
    conn: &mut Conn,
    now: Timestamp,
    shards: &BTreeSet<i16>,
    paused: &[String],
    limit: usize,
) -> QueryResult<Vec<DueRow>> {
    let list = numbers(shards);
    let allowed = allowed(conn, paused);
    // SQLite numbers parameters as they appear.
    let size = if paused.is_empty() { "$2" } else { "$3" };
    // The page is cut before the join, so that no plan, however stale its statistics, joins the whole backlog.
    let materialized = match conn {
        Conn::Pg(_) => "MATERIALIZED",
        Conn::Sqlite(_) => "",
    };
    let sql = format!(
        "WITH page AS {materialized} (\
           SELECT id, shard, attempt, size FROM outbox_open \
           WHERE status = 0 AND (attempt = 0 OR due_us <= $1) AND shard IN ({list}){allowed} ORDER BY id LIMIT {size}) \
         SELECT page.id, shard, attempt, size, event_type, key, epoch, payload, traceparent, created_us \
         FROM page JOIN outbox_event e ON e.id = page.id"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows: Vec<DueRow> = match (conn, paused) {
        (Conn::Pg(c), [_, ..]) => sql_query(sql)
            .bind::<BigInt, _>(now)
            .bind::<Array<Text>, _>(paused)
            .bind::<BigInt, _>(limit)
            .load(c)?,
        (Conn::Sqlite(c), [_, ..]) => sql_query(sql)
            .bind::<BigInt, _>(now)
            .bind::<Text, _>(json_list(paused)?)
            .bind::<BigInt, _>(limit)
            .load(c)?,
        (conn, []) => {
            on!(conn, c => sql_query(sql).bind::<BigInt, _>(now).bind::<BigInt, _>(limit).load(c))?
        }
    };
    // Sorted here: with ORDER BY, index plans would walk all events in their order and look each up in the page.
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// The condition that keeps the `paused` keys, as the second parameter, out of a page of open rows; none if nothing is paused.
///
/// Only rows in those keys' shards are looked up, each by its id: a scalar subquery leaves the planner no choice,
/// whatever it believes of the tables. A page is cut after that, so a paused backlog takes no place in it.
pub(super) fn allowed(conn: &Conn, paused: &[String]) -> String {
    if paused.is_empty() {
        return String::new();
    }
    let shards: BTreeSet<i16> = paused.iter().map(|key| shard_of(key)).collect();
    let key = "(SELECT e.key FROM outbox_event e WHERE e.id = outbox_open.id)";
    let other = match conn {
        Conn::Pg(_) => format!("{key} <> ALL($2)"),
        Conn::Sqlite(_) => format!("{key} NOT IN (SELECT value FROM json_each($2))"),
    };
    format!(" AND (shard NOT IN ({}) OR {other})", numbers(&shards))
}

fn numbers(shards: &BTreeSet<i16>) -> String {
    shards.iter().map(i16::to_string).collect::<Vec<_>>().join(",")
}

/// A list as SQLite takes it in one parameter.
pub(super) fn json_list(list: &[impl serde::Serialize]) -> QueryResult<String> {
    serde_json::to_string(list)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))
}

/// Whether an event waits to be sent since `before` or longer.
pub(in crate::outbox) fn any_pending(conn: &mut Conn, before: Timestamp) -> QueryResult<bool> {
    let waiting = outbox_open::table
        .filter(outbox_open::status.eq(0).and(outbox_open::due_us.le(before)))
        .select(outbox_open::id);
    on!(conn, c => waiting.first::<EventId>(c).optional()).map(|id| id.is_some())
}

/// One event's message again, whatever its status: for probes.
pub(in crate::outbox) fn message_of(conn: &mut Conn, id: EventId) -> QueryResult<Option<DueRow>> {
    let sql = "SELECT o.id, shard, attempt, size, event_type, key, epoch, payload, traceparent, created_us \
               FROM outbox_open o JOIN outbox_event e ON e.id = o.id WHERE o.id = $1";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(id).get_result(c).optional())
}

/// The shards of `held` that are still its owner's, locked until the transaction ends.
pub(in crate::outbox) fn fence(conn: &mut Conn, held: &LeaseSet) -> QueryResult<BTreeSet<i16>> {
    let mine = relay_lease::table
        .filter(relay_lease::owner.eq(&held.owner))
        .select((relay_lease::shard, relay_lease::token))
        .order(relay_lease::shard);
    let rows: Vec<(i16, i64)> = match conn {
        Conn::Pg(c) => mine.for_share().load(c)?,
        Conn::Sqlite(c) => mine.load(c)?,
    };
    let valid = rows.into_iter().filter(|(shard, token)| held.tokens.get(shard) == Some(token));
    Ok(valid.map(|(shard, _)| shard).collect())
}

/// PENDING at n−1 becomes SENT at n, by compare-and-set; returns which did. `sent` is sorted by id.
pub(in crate::outbox) fn mark_sent(
    conn: &mut Conn,
    sent: &[SentRow],
) -> QueryResult<HashSet<EventId>> {
    match conn {
        Conn::Pg(c) => {
            let marked: Vec<IdRow> = sql_query(
                "UPDATE outbox_open o SET status = 1, attempt = i.attempt, partition = i.partition, \
                   sent_offset = i.sent_offset, sent_us = i.sent_us \
                 FROM unnest($1, $2, $3, $4, $5) AS i (id, attempt, partition, sent_offset, sent_us) \
                 WHERE o.id = i.id AND o.status = 0 AND o.attempt = i.attempt - 1 RETURNING o.id",
            )
            .bind::<Array<EventIdSql>, _>(sent.iter().map(|s| s.id).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(sent.iter().map(|s| s.attempt).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(sent.iter().map(|s| s.partition).collect::<Vec<_>>())
            .bind::<Array<Nullable<BigInt>>, _>(sent.iter().map(|s| s.offset).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(sent.iter().map(|s| s.sent_us).collect::<Vec<_>>())
            .load(c)?;
            Ok(marked.into_iter().map(|row| row.id).collect())
        }
        Conn::Sqlite(c) => {
            let mut marked = HashSet::new();
            for s in sent {
                let pending = outbox_open::table
                    .find(s.id)
                    .filter(outbox_open::status.eq(0).and(outbox_open::attempt.eq(s.attempt - 1)));
                let changed = diesel::update(pending)
                    .set((
                        outbox_open::status.eq(1),
                        outbox_open::attempt.eq(s.attempt),
                        outbox_open::partition.eq(s.partition),
                        outbox_open::sent_offset.eq(s.offset),
                        outbox_open::sent_us.eq(s.sent_us),
                    ))
                    .execute(c)?;
                if changed == 1 {
                    marked.insert(s.id);
                }
            }
            Ok(marked)
        }
    }
}

/// The greatest offset that is known of each partition: answered, or sent and not answered yet.
pub(in crate::outbox) fn known_offsets(
    conn: &mut Conn,
    topic: &str,
) -> QueryResult<BTreeMap<i32, i64>> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        last: i64,
    }
    let sql = "SELECT partition, max(place) AS last FROM (\
                 SELECT partition, acked_offset AS place FROM outbox_partition \
                 WHERE topic = $1 AND acked_offset IS NOT NULL \
                 UNION ALL SELECT partition, sent_offset FROM outbox_open \
                 WHERE status = 1 AND partition IS NOT NULL AND sent_offset IS NOT NULL) known \
               GROUP BY partition";
    let rows: Vec<Known> = on!(conn, c => sql_query(sql).bind::<Text, _>(topic).load(c))?;
    Ok(rows.into_iter().map(|row| (row.partition, row.last)).collect())
}

/// Notes that partitions begin anew, with these offsets: what was sent to them before lies before all that comes now,
/// and how far the consumer was says nothing of it.
///
/// Only what was sent `before` counts: another instance may have been faster with a later event.
pub(in crate::outbox) fn begin_anew(
    conn: &mut Conn,
    topic: &str,
    anew: &BTreeMap<i32, i64>,
    before: Timestamp,
) -> QueryResult<()> {
    use {outbox_open as o, outbox_partition as p};
    for (partition, offset) in anew {
        let ahead = p::table.find((topic, partition)).filter(p::acked_offset.ge(offset));
        let lost = o::table
            .filter(o::status.eq(1).and(o::partition.eq(partition)))
            .filter(o::sent_offset.ge(offset).and(o::sent_us.lt(before)));
        let unknown = (
            p::acked_offset.eq(None::<i64>),
            p::pending_offset.eq(None::<i64>),
            p::passed_offset.eq(None::<i64>),
        );
        on!(conn, c => {
            // Events before partitions, as everywhere.
            diesel::update(lost).set(o::sent_offset.eq(-1_i64)).execute(c)?;
            diesel::update(ahead).set(unknown).execute(c)
        })?;
    }
    Ok(())
}

/// Events and bytes that are sent and unanswered, by partition.
pub(in crate::outbox) fn in_flight(conn: &mut Conn) -> QueryResult<Vec<(i32, i64, i64)>> {
    #[derive(QueryableByName)]
    struct InFlightRow {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let sql = "SELECT partition, count(*) AS events, CAST(sum(size) AS BIGINT) AS bytes \
               FROM outbox_open WHERE status = 1 AND partition IS NOT NULL GROUP BY partition";
    let rows: Vec<InFlightRow> = on!(conn, c => sql_query(sql).load(c))?;
    Ok(rows.into_iter().map(|row| (row.partition, row.events, row.bytes)).collect())
}
