//! What an answer, or an operator, changes: open rows under their lock, settled rows, history.

use std::collections::{BTreeMap, HashSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::event::EventFacts;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{consumer_partition, outbox_event, outbox_history, outbox_settled};
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::model::{HistoryRow, SettledRow};
use super::open::{Place, remove};

/// Ends events: their settlement is appended and their open row goes. Each was locked in this transaction, in the place
/// that stands with it.
pub(in crate::outbox) fn settle(
    conn: &mut Conn,
    rows: &[SettledRow],
    from: &BTreeMap<EventId, Place>,
) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let of = |place: Place| -> Vec<EventId> {
        let ids = rows.iter().map(|row| row.id);
        ids.filter(|id| from.get(id) == Some(&place)).collect()
    };
    remove(conn, Place::Failed, &of(Place::Failed))?;
    remove(conn, Place::Pending, &of(Place::Pending))?;
    let sent = of(Place::Sent);
    match conn {
        Conn::Pg(c) => sql_query(
            "WITH gone AS (DELETE FROM outbox_sent WHERE id = ANY($12)) \
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
        .bind::<Array<EventIdSql>, _>(sent)
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(outbox_settled::table).values(row).execute(c)?;
            }
            remove(conn, Place::Sent, &sent)
        }
    }
}

/// Appends lines to the events' histories.
pub(in crate::outbox) fn note(conn: &mut Conn, lines: &[HistoryRow]) -> QueryResult<()> {
    for chunk in lines.chunks(ROWS_PER_INSERT) {
        on!(conn, c => diesel::insert_into(outbox_history::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Which of `ids` are PROCESSED already; the others of them that are not open are unknown here.
pub(in crate::outbox) fn settled_among(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<HashSet<EventId>> {
    let rows: Vec<EventId> = on!(conn, c => outbox_settled::table
        .filter(outbox_settled::id.eq_any(ids))
        .select(outbox_settled::id)
        .load(c))?;
    Ok(rows.into_iter().collect())
}

/// The newest event that there is, and when it was made.
pub(in crate::outbox) fn newest(conn: &mut Conn) -> QueryResult<Option<(EventId, Timestamp)>> {
    let newest = outbox_event::table
        .order(outbox_event::id.desc())
        .select((outbox_event::id, outbox_event::created_us));
    on!(conn, c => newest.first(c).optional())
}

/// Notes that consumers gave answers in partitions, and up to which offset (`None`: to an earlier send only).
pub(in crate::outbox) fn mark_answered(
    conn: &mut Conn,
    topic: &str,
    answered: &BTreeMap<(String, i32), Option<i64>>,
    now: Timestamp,
) -> QueryResult<()> {
    use consumer_partition as p;
    for ((consumer, partition), offset) in answered {
        let first = (
            p::topic.eq(topic),
            p::partition.eq(partition),
            p::consumer.eq(consumer),
            p::acked_offset.eq(offset),
            p::shown_offset.eq(offset),
            p::last_ack_us.eq(now),
            p::probes.eq(0),
        );
        let again = (
            p::last_ack_us.eq(now),
            p::silent_us.eq(None::<Timestamp>),
            p::probe_due_us.eq(None::<Timestamp>),
            p::probes.eq(0),
            p::behind_us.eq(None::<Timestamp>),
        );
        on!(conn, c => {
            diesel::insert_into(p::table)
                .values(first)
                .on_conflict((p::topic, p::partition, p::consumer))
                .do_update()
                .set(again)
                .execute(c)
        })?;
        if let Some(offset) = offset {
            let behind = p::table
                .find((topic, partition, consumer))
                .filter(p::shown_offset.is_null().or(p::shown_offset.lt(offset)));
            // It may begin further than it has shown to be.
            let furthest = case_when(p::acked_offset.gt(offset), p::acked_offset)
                .otherwise(Some(*offset).into_sql::<Nullable<BigInt>>());
            let reached = (p::shown_offset.eq(offset), p::acked_offset.eq(furthest));
            on!(conn, c => diesel::update(behind).set(reached).execute(c))?;
        }
    }
    Ok(())
}

/// What events are, whether they are open or not.
pub(in crate::outbox) fn facts_of(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<Vec<EventFacts>> {
    on!(conn, c => outbox_event::table
        .filter(outbox_event::id.eq_any(ids))
        .select(EventFacts::as_select())
        .load(c))
}

/// What an event is, whether it is open or not.
pub(in crate::outbox) fn facts(conn: &mut Conn, id: EventId) -> QueryResult<Option<EventFacts>> {
    on!(conn, c => outbox_event::table.find(id).select(EventFacts::as_select()).first(c).optional())
}
