//! What the single consumers said of events, where more than one is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{consumer_partition, outbox_answer, outbox_sent};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::upsert::excluded;

use super::super::model::AnswerRow;

/// What was said of `ids` so far.
pub(in crate::outbox) fn answers(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<AnswerRow>> {
    on!(conn, c => outbox_answer::table
        .filter(outbox_answer::event_id.eq_any(ids))
        .select(AnswerRow::as_select())
        .load(c))
}

/// Writes down what is said now, in place of what was said before.
pub(in crate::outbox) fn save_answers(conn: &mut Conn, rows: &[AnswerRow]) -> QueryResult<()> {
    use outbox_answer as a;
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        on!(&mut *conn, c => diesel::insert_into(a::table)
            .values(chunk)
            .on_conflict((a::event_id, a::consumer))
            .do_update()
            .set((
                a::outcome.eq(excluded(a::outcome)),
                a::attempt.eq(excluded(a::attempt)),
                a::failures.eq(excluded(a::failures)),
                a::detail.eq(excluded(a::detail)),
                a::error.eq(excluded(a::error)),
                a::version.eq(excluded(a::version)),
                a::result.eq(excluded(a::result)),
                a::processed_us.eq(excluded(a::processed_us)),
            ))
            .execute(c))?;
    }
    Ok(())
}

/// A consumer has these by now: what it failed before is over.
pub(in crate::outbox) fn end_failures(
    conn: &mut Conn,
    consumer: &str,
    ids: &[EventId],
) -> QueryResult<()> {
    use outbox_answer as a;
    // The literal lets the partial index answer it.
    let failed = a::table
        .filter(a::consumer.eq(consumer).and(a::event_id.eq_any(ids)))
        .filter(diesel::dsl::sql::<Bool>("outcome = 2"));
    on!(conn, c => diesel::delete(failed).execute(c)).map(drop)
}

/// Where those of `ids` lie that are SENT: partition and offset.
pub(in crate::outbox) fn places(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<Vec<(EventId, i32, Option<i64>)>> {
    on!(conn, c => outbox_sent::table
        .filter(outbox_sent::id.eq_any(ids))
        .select((outbox_sent::id, outbox_sent::partition, outbox_sent::sent_offset))
        .load(c))
}

/// How far consumers have answered, by partition.
pub(in crate::outbox) fn acked(
    conn: &mut Conn,
    topic: &str,
) -> QueryResult<Vec<(i32, Option<i64>)>> {
    use consumer_partition as p;
    on!(conn, c => p::table
        .filter(p::topic.eq(topic))
        .select((p::partition, p::acked_offset))
        .load(c))
}

/// So long a watched consumer may give no first answer in a partition where others gave some: perhaps it has nothing to
/// answer there.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(60);

/// A partition in which others have answered further than a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) partition: i32,
    /// How many offsets lie between them.
    pub(crate) offsets: i64,
    /// Whether the consumer itself has answered anything there.
    pub(crate) has_answered: bool,
    /// When another one answered last there.
    pub(crate) reached_at: Timestamp,
}

/// The partitions of `topic` in which others have answered further than `consumer`. What counts is what it answered itself:
/// where it was taken to be when it began to be watched says nothing of its copy.
pub(crate) fn behind(conn: &mut Conn, topic: &str, consumer: &str) -> QueryResult<Vec<Behind>> {
    use consumer_partition as p;
    #[derive(Default)]
    struct Reached {
        own: Option<i64>,
        any: Option<i64>,
        at: Timestamp,
    }
    type Place = (i32, String, Option<i64>, Option<i64>, Timestamp);
    let rows: Vec<Place> = on!(conn, c => p::table
            .filter(p::topic.eq(topic).and(p::acked_offset.is_not_null()))
            .select((p::partition, p::consumer, p::acked_offset, p::shown_offset, p::last_ack_us))
            .load(c))?;
    let mut reached: BTreeMap<i32, Reached> = BTreeMap::new();
    for (partition, name, acked, shown, at) in rows {
        let reached = reached.entry(partition).or_default();
        reached.any = reached.any.max(acked);
        match name == consumer {
            true => reached.own = shown,
            false => reached.at = reached.at.max(at),
        }
    }
    let behind = |(partition, Reached { own, any, at }): (i32, Reached)| {
        let offsets = any.unwrap_or(-1) - own.unwrap_or(-1);
        let behind = Behind { partition, offsets, has_answered: own.is_some(), reached_at: at };
        (offsets > 0).then_some(behind)
    };
    Ok(reached.into_iter().filter_map(behind).collect())
}

/// What was answered for good and is open still.
#[derive(Debug)]
pub(in crate::outbox) struct Answered {
    /// In the order of their ids.
    pub(in crate::outbox) ids: Vec<EventId>,
    /// Behind which event there may be more; `None` at the end.
    pub(in crate::outbox) next: Option<EventId>,
}

/// Events behind `after` that are open, `limit` at the most, and that `consumer` has answered for good.
///
/// An answer may be faster than the note of the send: what is not noted yet is found from the answers behind the oldest
/// event that waits, where the backlog may be long. One that is paused may have waited for weeks, and all that was settled
/// since has answers: so `read` of them are looked at, and the next page goes on behind the last one.
pub(in crate::outbox) fn answered_and_open(
    conn: &mut Conn,
    consumer: &str,
    after: EventId,
    limit: i64,
    read: i64,
) -> QueryResult<Answered> {
    // The numbers in the order in which they stand, for SQLite's sake. Scalar subqueries leave the planner no choice,
    // whatever it believes of the tables: else it begins with all answers.
    let of = |table: &str, first: usize| {
        let (after, consumer, limit) = (first, first + 1, first + 2);
        format!(
            "SELECT id, TRUE AS is_open, FALSE AS is_read FROM (\
               SELECT o.id FROM {table} o WHERE o.id > ${after} AND (\
                 SELECT 1 FROM outbox_answer a \
                 WHERE a.event_id = o.id AND a.consumer = ${consumer} AND a.outcome < 2) IS NOT NULL \
               ORDER BY o.id LIMIT ${limit}) {table}"
        )
    };
    // Whose answers they are is asked of each event by itself: a page may end between the answers to one.
    let unnoted = "SELECT id, (SELECT 1 FROM outbox_pending p WHERE p.id = page.id) IS NOT NULL \
                     AND (SELECT 1 FROM outbox_answer a \
                          WHERE a.event_id = page.id AND a.consumer = $7 AND a.outcome < 2) IS NOT NULL AS is_open, \
                     TRUE AS is_read \
                   FROM (SELECT a.event_id AS id FROM outbox_answer a WHERE a.event_id > $8 \
                           AND a.event_id >= (SELECT id FROM outbox_pending ORDER BY id LIMIT 1) \
                         ORDER BY a.event_id LIMIT $9) page";
    let (sent, failed) = (of("outbox_sent", 1), of("outbox_failed", 4));
    // One statement: what is noted between two would be in neither.
    let sql = format!("{sent} UNION ALL {failed} UNION ALL {unnoted}");
    let rows: Vec<FoundRow> = on!(conn, c => sql_query(sql)
        .bind::<EventIdSql, _>(after)
        .bind::<Text, _>(consumer)
        .bind::<BigInt, _>(limit)
        .bind::<EventIdSql, _>(after)
        .bind::<Text, _>(consumer)
        .bind::<BigInt, _>(limit)
        .bind::<Text, _>(consumer)
        .bind::<EventIdSql, _>(after)
        .bind::<BigInt, _>(read)
        .load(c))?;
    Ok(page(&rows, amount(limit), amount(read)))
}

#[derive(QueryableByName)]
struct FoundRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Bool)]
    is_open: bool,
    /// Whether it comes from the answers that were looked at.
    #[diesel(sql_type = Bool)]
    is_read: bool,
}

/// The first `limit` of what was found, as far as all is known: to the last answer, if there were `read`.
fn page(rows: &[FoundRow], limit: usize, read: usize) -> Answered {
    let looked_at = || rows.iter().filter(|row| row.is_read).map(|row| row.id);
    let known = looked_at().max().filter(|_| looked_at().count() >= read);
    let open = rows.iter().filter(|row| row.is_open).map(|row| row.id);
    let mut ids: Vec<EventId> = open.filter(|id| known.is_none_or(|known| *id <= known)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(limit);
    let last = ids.last().copied().filter(|_| ids.len() >= limit);
    Answered { ids, next: last.or(known) }
}

fn amount(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
