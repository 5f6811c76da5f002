//! The outbox's statements: the only file of it that knows two dialects.
//!
//! PostgreSQL takes whole batches as arrays, one round trip each; SQLite, which has no round trip, takes
//! prepared statements row by row inside the same transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::event::EventFacts;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{
    outbox_event, outbox_history, outbox_open, outbox_partition, outbox_settled, relay_lease,
};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::append::shard_of;
use super::lease::LeaseSet;
use super::model::{HistoryRow, OpenRow, SettledRow};

/// A PENDING event that is due, with all that its message needs.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct DueRow {
    #[diesel(sql_type = EventIdSql)]
    pub(super) id: EventId,
    #[diesel(sql_type = SmallInt)]
    pub(super) shard: i16,
    #[diesel(sql_type = Integer)]
    pub(super) attempt: i32,
    #[diesel(sql_type = Integer)]
    pub(super) size: i32,
    #[diesel(sql_type = Text)]
    pub(super) event_type: String,
    #[diesel(sql_type = Text)]
    pub(super) key: String,
    #[diesel(sql_type = BigInt)]
    pub(super) epoch: i64,
    #[diesel(sql_type = Text)]
    pub(super) payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) traceparent: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub(super) created_us: Timestamp,
}

/// A send that the broker confirmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentRow {
    pub(super) id: EventId,
    pub(super) shard: i16,
    /// The number of the attempt that was sent.
    pub(super) attempt: i32,
    pub(super) partition: i32,
    pub(super) sent_us: Timestamp,
}

/// The oldest due events of `shards`, found by status (commit order is not id order, so nothing is skipped).
pub(super) fn due(
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
           WHERE status = 0 AND due_us <= $1 AND shard IN ({list}){allowed} ORDER BY id LIMIT {size}) \
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
fn allowed(conn: &Conn, paused: &[String]) -> String {
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
fn json_list(list: &[impl serde::Serialize]) -> QueryResult<String> {
    serde_json::to_string(list)
        .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))
}

/// One event's message again, whatever its status: for probes.
pub(super) fn message_of(conn: &mut Conn, id: EventId) -> QueryResult<Option<DueRow>> {
    let sql = "SELECT o.id, shard, attempt, size, event_type, key, epoch, payload, traceparent, created_us \
               FROM outbox_open o JOIN outbox_event e ON e.id = o.id WHERE o.id = $1";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(id).get_result(c).optional())
}

/// The shards of `held` that are still its owner's, locked until the transaction ends.
pub(super) fn fence(conn: &mut Conn, held: &LeaseSet) -> QueryResult<BTreeSet<i16>> {
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
pub(super) fn mark_sent(conn: &mut Conn, sent: &[SentRow]) -> QueryResult<HashSet<EventId>> {
    match conn {
        Conn::Pg(c) => {
            let marked: Vec<IdRow> = sql_query(
                "UPDATE outbox_open o SET status = 1, attempt = i.attempt, partition = i.partition, sent_us = i.sent_us \
                 FROM unnest($1, $2, $3, $4) AS i (id, attempt, partition, sent_us) \
                 WHERE o.id = i.id AND o.status = 0 AND o.attempt = i.attempt - 1 RETURNING o.id",
            )
            .bind::<Array<EventIdSql>, _>(sent.iter().map(|s| s.id).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(sent.iter().map(|s| s.attempt).collect::<Vec<_>>())
            .bind::<Array<Integer>, _>(sent.iter().map(|s| s.partition).collect::<Vec<_>>())
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

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
}

/// The open rows of `ids` with what they are, locked in the order of their ids until the transaction ends.
pub(super) fn lock(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<(OpenRow, EventFacts)>> {
    if let Conn::Pg(c) = conn {
        // Only the open rows need the lock: an event's own row never changes.
        let _locked: Vec<EventId> = outbox_open::table
            .filter(outbox_open::id.eq_any(ids))
            .select(outbox_open::id)
            .order(outbox_open::id)
            .for_update()
            .load(c)?;
    }
    on!(conn, c => outbox_open::table
        .inner_join(outbox_event::table.on(outbox_event::id.eq(outbox_open::id)))
        .filter(outbox_open::id.eq_any(ids))
        .select((OpenRow::as_select(), EventFacts::as_select()))
        .order(outbox_open::id)
        .load(c))
}

/// Writes changed rows back; `rows` were locked by [`lock`] in this transaction.
pub(super) fn save(conn: &mut Conn, rows: &[OpenRow]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE outbox_open o SET status = i.status, attempt = i.attempt, attempt_limit = i.attempt_limit, \
               due_us = i.due_us, partition = i.partition, sent_us = i.sent_us, resolved_us = i.resolved_us \
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) \
               AS i (id, status, attempt, attempt_limit, due_us, partition, sent_us, resolved_us) \
             WHERE o.id = i.id",
        )
        .bind::<Array<EventIdSql>, _>(rows.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(rows.iter().map(|r| r.status).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(rows.iter().map(|r| r.attempt).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(rows.iter().map(|r| r.attempt_limit).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(rows.iter().map(|r| r.due_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<Integer>>, _>(rows.iter().map(|r| r.partition).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.sent_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.resolved_us).collect::<Vec<_>>())
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => {
            for row in rows {
                diesel::update(outbox_open::table.find(row.id)).set(row).execute(c)?;
            }
            Ok(())
        }
    }
}

/// Ends events: their settlement is appended and their open row goes. `rows` were locked in this transaction.
pub(super) fn settle(conn: &mut Conn, rows: &[SettledRow]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => sql_query(
            "WITH gone AS (DELETE FROM outbox_open WHERE id = ANY($1)) \
             INSERT INTO outbox_settled (id, outcome, detail, attempt, partition, sent_us, settled_us, \
               processed_us, version, consumer, result) \
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind::<Array<EventIdSql>, _>(rows.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(rows.iter().map(|r| r.outcome).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(rows.iter().map(|r| r.attempt).collect::<Vec<_>>())
        .bind::<Array<Nullable<Integer>>, _>(rows.iter().map(|r| r.partition).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.sent_us).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(rows.iter().map(|r| r.settled_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.processed_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.version).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|r| r.consumer.as_str()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|r| r.result.as_deref()).collect::<Vec<_>>())
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(outbox_settled::table).values(row).execute(c)?;
                diesel::delete(outbox_open::table.find(row.id)).execute(c)?;
            }
            Ok(())
        }
    }
}

/// Appends lines to the events' histories.
pub(super) fn note(conn: &mut Conn, lines: &[HistoryRow]) -> QueryResult<()> {
    for chunk in lines.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(outbox_history::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Which of `ids` are PROCESSED already; the others of them that are not open are unknown here.
pub(super) fn settled_among(conn: &mut Conn, ids: &[EventId]) -> QueryResult<HashSet<EventId>> {
    let rows: Vec<EventId> = on!(conn, c => outbox_settled::table
        .filter(outbox_settled::id.eq_any(ids))
        .select(outbox_settled::id)
        .load(c))?;
    Ok(rows.into_iter().collect())
}

/// Notes that partitions gave answers, and up to which moment of sending (`None`: to an earlier send only).
pub(super) fn mark_answered(
    conn: &mut Conn,
    topic: &str,
    answered: &BTreeMap<i32, Option<Timestamp>>,
    now: Timestamp,
) -> QueryResult<()> {
    use outbox_partition as p;
    for (partition, sent) in answered {
        let first = (
            p::topic.eq(topic),
            p::partition.eq(partition),
            p::acked_sent_us.eq(sent.unwrap_or_default()),
            p::last_ack_us.eq(now),
            p::probes.eq(0),
        );
        let again = (
            p::last_ack_us.eq(now),
            p::silent_us.eq(None::<Timestamp>),
            p::probe_due_us.eq(None::<Timestamp>),
            p::probes.eq(0),
        );
        on!(conn, c => {
            diesel::insert_into(p::table)
                .values(first)
                .on_conflict((p::topic, p::partition))
                .do_update()
                .set(again)
                .execute(c)?;
            diesel::update(p::table.find((topic, partition)))
                .filter(p::acked_sent_us.lt(sent.unwrap_or_default()))
                .set(p::acked_sent_us.eq(sent.unwrap_or_default()))
                .execute(c)
        })?;
    }
    Ok(())
}

/// SENT events that their consumer has passed by, oldest first.
pub(super) fn overdue(
    conn: &mut Conn,
    topic: &str,
    sent_before: Timestamp,
    grace: Duration,
    limit: i64,
) -> QueryResult<Vec<EventId>> {
    let grace = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
    let sql = "SELECT o.id FROM outbox_open o \
               JOIN outbox_partition p ON p.topic = $1 AND p.partition = o.partition \
               WHERE o.status = 1 AND o.sent_us <= $2 AND o.sent_us <= p.acked_sent_us - $3 \
               ORDER BY o.id LIMIT $4";
    let rows: Vec<IdRow> = on!(conn, c => sql_query(sql)
        .bind::<Text, _>(topic)
        .bind::<BigInt, _>(sent_before)
        .bind::<BigInt, _>(grace)
        .bind::<BigInt, _>(limit)
        .load(c))?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// A partition that holds SENT events and gives no answers.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Silent {
    #[diesel(sql_type = Integer)]
    pub(super) partition: i32,
    #[diesel(sql_type = BigInt)]
    pub(super) waiting: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) waiting_since: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) since: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) probe_due: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    pub(super) probes: i32,
}

/// The partitions whose oldest SENT event, and whose last answer, are both older than `before`.
pub(super) fn silent(conn: &mut Conn, topic: &str, before: Timestamp) -> QueryResult<Vec<Silent>> {
    let sql = "SELECT o.partition, count(*) AS waiting, min(o.sent_us) AS waiting_since, \
                 p.silent_us AS since, p.probe_due_us AS probe_due, COALESCE(p.probes, 0) AS probes \
               FROM outbox_open o \
               LEFT JOIN outbox_partition p ON p.topic = $1 AND p.partition = o.partition \
               WHERE o.status = 1 AND o.partition IS NOT NULL \
               GROUP BY o.partition, p.silent_us, p.probe_due_us, p.probes, p.last_ack_us \
               HAVING min(o.sent_us) <= $2 AND COALESCE(p.last_ack_us, 0) <= $3 \
               ORDER BY o.partition";
    on!(conn, c => sql_query(sql)
        .bind::<Text, _>(topic)
        .bind::<BigInt, _>(before)
        .bind::<BigInt, _>(before)
        .load(c))
}

/// The oldest event of a partition that waits for its answer, and whose key is none of `paused`.
pub(super) fn oldest_sent(
    conn: &mut Conn,
    partition: i32,
    paused: &[String],
) -> QueryResult<Option<EventId>> {
    let allowed = allowed(conn, paused);
    let sql = format!(
        "SELECT id FROM outbox_open WHERE status = 1 AND partition = $1{allowed} ORDER BY id LIMIT 1"
    );
    let query = sql_query(sql).bind::<Integer, _>(partition);
    let row: Option<IdRow> = match (conn, paused) {
        (Conn::Pg(c), [_, ..]) => query.bind::<Array<Text>, _>(paused).get_result(c).optional()?,
        (Conn::Sqlite(c), [_, ..]) => {
            query.bind::<Text, _>(json_list(paused)?).get_result(c).optional()?
        }
        (conn, []) => on!(conn, c => query.get_result(c).optional())?,
    };
    Ok(row.map(|row| row.id))
}

/// Whether an episode of silence is under way.
pub(super) fn any_silence(conn: &mut Conn, topic: &str) -> QueryResult<bool> {
    let silent = outbox_partition::table
        .filter(outbox_partition::topic.eq(topic).and(outbox_partition::silent_us.is_not_null()))
        .select(outbox_partition::partition);
    let first: Option<i32> = on!(conn, c => silent.first(c).optional())?;
    Ok(first.is_some())
}

/// Notes that a partition is silent and when it is probed next.
pub(super) fn note_silence(
    conn: &mut Conn,
    topic: &str,
    silent: &Silent,
    now: Timestamp,
    next_probe: Timestamp,
) -> QueryResult<()> {
    use outbox_partition as p;
    let since = silent.since.unwrap_or(now);
    let state = (
        p::silent_us.eq(Some(since)),
        p::probe_due_us.eq(Some(next_probe)),
        p::probes.eq(silent.probes + 1),
    );
    let never_answered = (
        p::topic.eq(topic),
        p::partition.eq(silent.partition),
        p::acked_sent_us.eq(0),
        p::last_ack_us.eq(0),
    );
    on!(conn, c => diesel::insert_into(p::table)
        .values((never_answered, state))
        .on_conflict((p::topic, p::partition))
        .do_update()
        .set(state)
        .execute(c))?;
    Ok(())
}

/// Those snapshots among `ids` whose key has a newer version that is PROCESSED.
///
/// Newer by id too, so that a long history is not walked; where clocks of instances disagree, [`overtaken`] finds
/// the rest.
pub(super) fn overtaken_among(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<EventId>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let overtaken = "SELECT e.id FROM outbox_event e WHERE e.kind = 0 AND EXISTS (\
                       SELECT 1 FROM outbox_event n JOIN outbox_settled s ON s.id = n.id \
                       WHERE n.key = e.key AND n.kind = 0 AND n.id > e.id \
                         AND (n.epoch, n.version) > (e.epoch, e.version)) AND e.id";
    let rows: Vec<IdRow> = match conn {
        Conn::Pg(c) => {
            sql_query(format!("{overtaken} = ANY($1)")).bind::<Array<EventIdSql>, _>(ids).load(c)?
        }
        Conn::Sqlite(c) => {
            let list = json_list(ids)?;
            sql_query(format!("{overtaken} IN (SELECT value FROM json_each(?))"))
                .bind::<Text, _>(list)
                .load(c)?
        }
    };
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Events whose alert was raised since `since` and is open although a newer version of their key is PROCESSED.
pub(super) fn overtaken(
    conn: &mut Conn,
    since: Timestamp,
    limit: i64,
) -> QueryResult<Vec<EventId>> {
    let sql = "SELECT a.event_id AS id FROM alert a \
               WHERE a.closed_us IS NULL AND a.kind = 'exhausted' AND a.event_kind = 0 \
                 AND a.created_us >= $1 \
                 AND EXISTS (SELECT 1 FROM outbox_event e JOIN outbox_settled s ON s.id = e.id \
                             WHERE e.key = a.key AND e.kind = 0 \
                               AND (e.epoch, e.version) > (a.epoch, a.version)) \
               ORDER BY a.event_id LIMIT $2";
    let rows: Vec<IdRow> = on!(conn, c => sql_query(sql)
        .bind::<BigInt, _>(since)
        .bind::<BigInt, _>(limit)
        .load(c))?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The newest version of a key that was ever written here, if its events are still kept.
pub(super) fn newest_version(conn: &mut Conn, key: &str) -> QueryResult<Option<i64>> {
    on!(conn, c => outbox_event::table
        .filter(outbox_event::key.eq(key).and(outbox_event::kind.eq(0)))
        .select(outbox_event::version)
        .order(outbox_event::id.desc())
        .first(c)
        .optional())
}

/// Events and bytes that are sent and unanswered, by partition.
pub(super) fn in_flight(conn: &mut Conn) -> QueryResult<Vec<(i32, i64, i64)>> {
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

/// What events are, whether they are open or not.
pub(super) fn facts_of(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<EventFacts>> {
    on!(conn, c => outbox_event::table
        .filter(outbox_event::id.eq_any(ids))
        .select(EventFacts::as_select())
        .load(c))
}

/// What an event is, whether it is open or not.
pub(super) fn facts(conn: &mut Conn, id: EventId) -> QueryResult<Option<EventFacts>> {
    on!(conn, c => outbox_event::table.find(id).select(EventFacts::as_select()).first(c).optional())
}
