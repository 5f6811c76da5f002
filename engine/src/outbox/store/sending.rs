//! What the relay reads and notes: due events, its fence, what the broker confirmed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::clock::Timestamp;
use common::db::{Backend, Conn, ROWS_PER_INSERT, column};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{consumer_partition, outbox_failed, outbox_pending, outbox_sent, relay_lease};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::append::shard_of;
use super::super::lease::LeaseSet;
use super::super::log::Ended;
use super::super::model::SentRow;
use super::super::position::Position;
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
    /// The transaction that appended it; 0 where it was sent before, and its lower 32 bits where the log told of it.
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) tx: i64,
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
pub(in crate::outbox) struct Confirmation {
    pub(in crate::outbox) id: EventId,
    pub(in crate::outbox) shard: i16,
    /// The number of the attempt that was sent.
    pub(in crate::outbox) attempt: i32,
    pub(in crate::outbox) partition: i32,
    pub(in crate::outbox) offset: Option<i64>,
    pub(in crate::outbox) sent_us: Timestamp,
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
        Conn::Pg(c) => sql_query(format!(
            // The page is cut before the join, so that no plan, however stale its statistics, joins the whole backlog. The
            // first unused number is of the page's own snapshot: with an earlier one, what has begun since would pass.
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
             SELECT page.id, shard, attempt, size, tx, event_type, key, epoch, payload, traceparent, created_us \
             FROM page JOIN outbox_event e ON e.id = page.id",
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
        .bind::<BigInt, _>(until)
        .load(c)?,
        // Only PostgreSQL has a log that could bring the others.
        Conn::Sqlite(c) => sql_query(format!(
            // Parameters stand in the order of their numbers, for SQLite's sake. The index gives the order: a page that is
            // cut holds the first of its last shard, as positions need it.
            "SELECT page.id, shard, attempt, size, tx, \
               event_type, key, epoch, payload, traceparent, created_us \
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

fn number(conn: &mut Conn, sql: &str) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let row: Number = on!(conn, c => sql_query(sql).get_result(c))?;
    Ok(row.number)
}

/// The transactions that have ended. Only PostgreSQL runs several at a time.
pub(in crate::outbox) fn ended(conn: &mut Conn) -> QueryResult<Option<Ended>> {
    #[derive(QueryableByName)]
    struct Snapshot {
        #[diesel(sql_type = Text)]
        ended: String,
    }
    let Conn::Pg(c) = conn else { return Ok(None) };
    let row: Snapshot = sql_query("SELECT pg_current_snapshot()::text AS ended").get_result(c)?;
    Ok(row.ended.parse().ok())
}

/// The oldest transaction that may still append an event: all that older ones appended is there.
///
/// Asked before what is read up to it: what a later snapshot sees is no less.
pub(in crate::outbox) fn horizon(conn: &mut Conn) -> QueryResult<i64> {
    let sql = match conn {
        Conn::Pg(_) => "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS number",
        // One writer: what is counted is committed.
        Conn::Sqlite(_) => "SELECT appended + 1 AS number FROM service_state",
    };
    number(conn, sql)
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

fn numbers(shards: impl Iterator<Item = i16>) -> String {
    let distinct: BTreeSet<i16> = shards.collect();
    distinct.iter().map(i16::to_string).collect::<Vec<_>>().join(",")
}

/// A list as SQLite takes it in one parameter.
pub(super) fn json_list(list: &[impl serde::Serialize]) -> QueryResult<String> {
    serde_json::to_string(list)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))
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
                 event_type, key, epoch, payload, traceparent, created_us \
               FROM outbox_sent o JOIN outbox_event e ON e.id = o.id WHERE o.id = $1";
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
    sent: &[Confirmation],
) -> QueryResult<HashSet<EventId>> {
    let mut attempts: BTreeMap<i32, Vec<EventId>> = BTreeMap::new();
    for confirmed in sent {
        attempts.entry(confirmed.attempt).or_default().push(confirmed.id);
    }
    let mut taken: HashMap<EventId, Taken> = HashMap::new();
    // Failed ones first, as everywhere.
    for (attempt, ids) in attempts.iter().rev() {
        let rows = match attempt {
            1 => take_fresh(conn, ids)?,
            _ => take_again(conn, ids, attempt - 1)?,
        };
        taken.extend(rows.into_iter().map(|row| (row.id, row)));
    }
    let row = |sent: &Confirmation| {
        let Taken { id, shard, attempt_limit, size } = taken.remove(&sent.id)?;
        Some(SentRow {
            id,
            shard,
            attempt: sent.attempt,
            attempt_limit,
            partition: sent.partition,
            sent_us: sent.sent_us,
            sent_offset: sent.offset,
            size,
        })
    };
    let rows: Vec<SentRow> = sent.iter().filter_map(row).collect();
    insert_sent(conn, &rows)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Notes of events that were answered before their first attempt was seen where that lies; returns which. `sent` is
/// sorted by id.
pub(in crate::outbox) fn place(
    conn: &mut Conn,
    sent: &[Confirmation],
) -> QueryResult<BTreeSet<EventId>> {
    let mut placed: BTreeSet<EventId> = BTreeSet::new();
    // Open ones first, as everywhere. One that is settled in between is found there.
    for table in ["outbox_failed", "outbox_settled"] {
        placed.extend(place_in(conn, table, sent)?);
    }
    Ok(placed)
}

fn place_in(conn: &mut Conn, table: &str, sent: &[Confirmation]) -> QueryResult<Vec<EventId>> {
    match conn {
        Conn::Pg(c) => {
            let rows: Vec<IdRow> = sql_query(format!(
                // The list narrows by the key, whatever the planner believes of the join.
                "UPDATE {table} o SET partition = s.partition, sent_us = s.sent_us \
                 FROM unnest($1, $2, $3) AS s (id, partition, sent_us) \
                 WHERE o.id = ANY($1) AND o.id = s.id AND o.sent_us IS NULL RETURNING o.id"
            ))
            .bind::<Array<EventIdSql>, _>(column(sent, |s| s.id))
            .bind::<Array<Integer>, _>(column(sent, |s| s.partition))
            .bind::<Array<BigInt>, _>(column(sent, |s| s.sent_us))
            .load(c)?;
            Ok(rows.into_iter().map(|row| row.id).collect())
        }
        Conn::Sqlite(c) => {
            let mut placed = Vec::new();
            for one in sent {
                let changed = sql_query(format!(
                    "UPDATE {table} SET partition = $1, sent_us = $2 WHERE id = $3 AND sent_us IS NULL"
                ))
                .bind::<Integer, _>(one.partition)
                .bind::<BigInt, _>(one.sent_us)
                .bind::<EventIdSql, _>(one.id)
                .execute(c)?;
                placed.extend((changed > 0).then_some(one.id));
            }
            Ok(placed)
        }
    }
}

/// What a row that is taken out of its place leaves to the next one.
#[derive(Debug, Queryable, QueryableByName)]
struct Taken {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = SmallInt)]
    shard: i16,
    #[diesel(sql_type = Integer)]
    attempt_limit: i32,
    #[diesel(sql_type = Integer)]
    size: i32,
}

/// Each by its id and by nothing else: joined with a list, or with a condition that fits another index, it would be a
/// walk over the whole backlog where statistics are stale.
fn take_fresh(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<Taken>> {
    use outbox_pending as p;
    match conn {
        Conn::Pg(c) => sql_query(
            "DELETE FROM outbox_pending WHERE id = ANY($1) RETURNING id, shard, attempt_limit, size",
        )
        .bind::<Array<EventIdSql>, _>(ids)
        .load(c),
        Conn::Sqlite(c) => taken(ids, |ids| {
            diesel::delete(p::table.filter(p::id.eq_any(ids)))
                .returning((p::id, p::shard, p::attempt_limit, p::size))
                .get_results(c)
        }),
    }
}

/// See [`take_fresh`]: `status <> 2` fits no index, `status = 0` would.
fn take_again(conn: &mut Conn, ids: &[EventId], attempt: i32) -> QueryResult<Vec<Taken>> {
    use outbox_failed as f;
    match conn {
        Conn::Pg(c) => sql_query(
            "DELETE FROM outbox_failed WHERE id = ANY($1) AND status <> 2 AND attempt = $2 \
             RETURNING id, shard, attempt_limit, size",
        )
        .bind::<Array<EventIdSql>, _>(ids)
        .bind::<Integer, _>(attempt)
        .load(c),
        Conn::Sqlite(c) => taken(ids, |ids| {
            let pending = f::status.ne(2).and(f::attempt.eq(attempt));
            diesel::delete(f::table.filter(f::id.eq_any(ids)).filter(pending))
                .returning((f::id, f::shard, f::attempt_limit, f::size))
                .get_results(c)
        }),
    }
}

/// In parts that have few enough parameters.
fn taken(
    ids: &[EventId],
    mut take: impl FnMut(&[EventId]) -> QueryResult<Vec<Taken>>,
) -> QueryResult<Vec<Taken>> {
    let mut rows = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(ROWS_PER_INSERT) {
        rows.extend(take(chunk)?);
    }
    Ok(rows)
}

fn insert_sent(conn: &mut Conn, rows: &[SentRow]) -> QueryResult<()> {
    match conn {
        // All were taken out of another place in this transaction, so none can be here.
        Conn::Pg(c) if !rows.is_empty() => sql_query(
            "INSERT INTO outbox_sent (id, shard, attempt, attempt_limit, partition, sent_us, sent_offset, size) \
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind::<Array<EventIdSql>, _>(column(rows, |r| r.id))
        .bind::<Array<SmallInt>, _>(column(rows, |r| r.shard))
        .bind::<Array<Integer>, _>(column(rows, |r| r.attempt))
        .bind::<Array<Integer>, _>(column(rows, |r| r.attempt_limit))
        .bind::<Array<Integer>, _>(column(rows, |r| r.partition))
        .bind::<Array<BigInt>, _>(column(rows, |r| r.sent_us))
        .bind::<Array<Nullable<BigInt>>, _>(column(rows, |r| r.sent_offset))
        .bind::<Array<Integer>, _>(column(rows, |r| r.size))
        .execute(c)
        .map(drop),
        Conn::Pg(_) => Ok(()),
        Conn::Sqlite(c) => {
            for chunk in rows.chunks(ROWS_PER_INSERT) {
                diesel::insert_into(outbox_sent::table).values(chunk).execute(c)?;
            }
            Ok(())
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
                 SELECT partition, acked_offset AS place FROM consumer_partition \
                 WHERE topic = $1 AND acked_offset IS NOT NULL \
                 UNION ALL SELECT partition, sent_offset FROM outbox_sent WHERE sent_offset IS NOT NULL) known \
               GROUP BY partition";
    let rows: Vec<Known> = on!(conn, c => sql_query(sql).bind::<Text, _>(topic).load(c))?;
    Ok(rows.into_iter().map(|row| (row.partition, row.last)).collect())
}

/// Notes that partitions begin anew, with these offsets: what was sent to them before lies before all that comes now,
/// and how far consumers were says nothing of it.
///
/// Only what was sent `before` counts: another instance may have been faster with a later event. And only consumers
/// that were heard last before `heard`: whoever answers since may have answered a later one.
pub(in crate::outbox) fn begin_anew(
    conn: &mut Conn,
    topic: &str,
    anew: &BTreeMap<i32, i64>,
    before: Timestamp,
    heard: Timestamp,
) -> QueryResult<()> {
    use {consumer_partition as p, outbox_sent as o};
    for (partition, offset) in anew {
        let ahead = p::table
            .filter(p::topic.eq(topic).and(p::partition.eq(partition)))
            .filter(p::acked_offset.ge(offset).and(p::last_ack_us.lt(heard)));
        let lost = o::table
            .filter(o::partition.eq(partition))
            .filter(o::sent_offset.ge(offset).and(o::sent_us.lt(before)));
        let unknown = (
            p::acked_offset.eq(None::<i64>),
            p::shown_offset.eq(None::<i64>),
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

/// Events and bytes that are sent and unanswered, by shard; `most` events are counted at the most, since another program
/// may send more than this one would.
pub(in crate::outbox) fn in_flight(
    conn: &mut Conn,
    most: i64,
) -> QueryResult<BTreeMap<i16, (i64, i64)>> {
    #[derive(QueryableByName)]
    struct InFlightRow {
        #[diesel(sql_type = SmallInt)]
        shard: i16,
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let sql = "SELECT shard, count(*) AS events, CAST(sum(size) AS BIGINT) AS bytes \
               FROM (SELECT shard, size FROM outbox_sent LIMIT $1) counted GROUP BY shard";
    let rows: Vec<InFlightRow> = on!(conn, c => sql_query(sql).bind::<BigInt, _>(most).load(c))?;
    Ok(rows.into_iter().map(|row| (row.shard, (row.events, row.bytes))).collect())
}
