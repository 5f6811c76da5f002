//! What an answer, or an operator, changes: open rows under their lock, settled rows, history.

use std::collections::{BTreeMap, HashSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::event::EventFacts;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{outbox_event, outbox_history, outbox_open, outbox_partition, outbox_settled};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::model::{HistoryRow, OpenRow, SettledRow};

/// The open rows of `ids` with what they are, locked in the order of their ids until the transaction ends.
pub(in crate::outbox) fn lock(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<Vec<(OpenRow, EventFacts)>> {
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
pub(in crate::outbox) fn save(conn: &mut Conn, rows: &[OpenRow]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE outbox_open o SET status = i.status, attempt = i.attempt, attempt_limit = i.attempt_limit, \
               due_us = i.due_us, partition = i.partition, sent_us = i.sent_us, sent_offset = i.sent_offset, \
               resolved_us = i.resolved_us \
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) \
               AS i (id, status, attempt, attempt_limit, due_us, partition, sent_us, sent_offset, resolved_us) \
             WHERE o.id = i.id",
        )
        .bind::<Array<EventIdSql>, _>(rows.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(rows.iter().map(|r| r.status).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(rows.iter().map(|r| r.attempt).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(rows.iter().map(|r| r.attempt_limit).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(rows.iter().map(|r| r.due_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<Integer>>, _>(rows.iter().map(|r| r.partition).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.sent_us).collect::<Vec<_>>())
        .bind::<Array<Nullable<BigInt>>, _>(rows.iter().map(|r| r.sent_offset).collect::<Vec<_>>())
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
pub(in crate::outbox) fn settle(conn: &mut Conn, rows: &[SettledRow]) -> QueryResult<()> {
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

/// Notes that partitions gave answers, and up to which offset (`None`: to an earlier send only).
pub(in crate::outbox) fn mark_answered(
    conn: &mut Conn,
    topic: &str,
    answered: &BTreeMap<i32, Option<i64>>,
    now: Timestamp,
) -> QueryResult<()> {
    use outbox_partition as p;
    for (partition, offset) in answered {
        let first = (
            p::topic.eq(topic),
            p::partition.eq(partition),
            p::acked_sent_us.eq(0),
            p::acked_offset.eq(offset),
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
                .execute(c)
        })?;
        if let Some(offset) = offset {
            let behind = p::table
                .find((topic, partition))
                .filter(p::acked_offset.is_null().or(p::acked_offset.lt(offset)));
            on!(conn, c => diesel::update(behind).set(p::acked_offset.eq(offset)).execute(c))?;
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
