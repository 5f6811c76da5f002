//! What nobody reports: events passed by, and silent partitions.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{outbox_partition, outbox_sent};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::IdRow;
use super::sending::{allowed, json_list};

/// SENT events that their consumer has passed by, oldest first: sent long enough ago, and something that lies behind
/// them in their partition was answered some looks ago.
///
/// Where it is not known where they lie, since an older release sent them, they have until `unplaced_before`.
pub(in crate::outbox) fn overdue(
    conn: &mut Conn,
    topic: &str,
    sent_before: Timestamp,
    unplaced_before: Timestamp,
    limit: i64,
) -> QueryResult<Vec<EventId>> {
    let sql = "SELECT o.id FROM outbox_sent o \
               JOIN outbox_partition p ON p.topic = $1 AND p.partition = o.partition \
               WHERE ((o.sent_us <= $2 AND o.sent_offset < p.passed_offset) \
                 OR (o.sent_us <= $3 AND o.sent_offset IS NULL AND o.sent_us < p.last_ack_us)) \
               ORDER BY o.id LIMIT $4";
    let rows: Vec<IdRow> = on!(conn, c => sql_query(sql)
        .bind::<Text, _>(topic)
        .bind::<BigInt, _>(sent_before)
        .bind::<BigInt, _>(unplaced_before)
        .bind::<BigInt, _>(limit)
        .load(c))?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Whether anything was sent in the future: a clock ran ahead and was set right.
pub(in crate::outbox) fn any_ahead(conn: &mut Conn, now: Timestamp) -> QueryResult<bool> {
    use outbox_sent as s;
    let ahead = s::table.filter(s::sent_us.gt(now)).select(s::id);
    on!(conn, c => ahead.first::<EventId>(c).optional()).map(|id| id.is_some())
}

/// What was sent in the future was sent `now`: else it would not be overdue until the clock gets there again.
pub(in crate::outbox) fn set_right(conn: &mut Conn, now: Timestamp) -> QueryResult<()> {
    use outbox_sent as s;
    let ahead = s::table.filter(s::sent_us.gt(now));
    on!(conn, c => diesel::update(ahead).set(s::sent_us.eq(now)).execute(c)).map(drop)
}

/// One look at how far consumers are: what was answered at a look is `passed` two looks, each `grace` apart, later.
///
/// Moments of partitions that lie in the future become `now`, too: they prove nothing.
pub(in crate::outbox) fn look(
    conn: &mut Conn,
    topic: &str,
    now: Timestamp,
    grace: Duration,
    next_probe: Timestamp,
) -> QueryResult<()> {
    use outbox_partition as p;
    let ours = || p::table.filter(p::topic.eq(topic));
    let due =
        p::looked_us.is_null().or(p::looked_us.le(now.before(grace))).or(p::looked_us.gt(now));
    let moved = (
        p::passed_offset.eq(p::pending_offset),
        p::pending_offset.eq(p::acked_offset),
        p::looked_us.eq(now),
    );
    on!(conn, c => {
        diesel::update(ours().filter(due)).set(moved).execute(c)?;
        diesel::update(ours().filter(p::last_ack_us.gt(now))).set(p::last_ack_us.eq(now)).execute(c)?;
        diesel::update(ours().filter(p::probe_due_us.gt(next_probe)))
            .set(p::probe_due_us.eq(now))
            .execute(c)
    })?;
    Ok(())
}

/// A partition that holds SENT events and gives no answers.
#[derive(Debug, Clone, QueryableByName)]
pub(in crate::outbox) struct Silent {
    #[diesel(sql_type = Integer)]
    pub(in crate::outbox) partition: i32,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) waiting: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) waiting_since: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(in crate::outbox) since: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(in crate::outbox) probe_due: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    pub(in crate::outbox) probes: i32,
}

/// The partitions whose oldest SENT event, and whose last answer, are both older than `before`.
pub(in crate::outbox) fn silent(
    conn: &mut Conn,
    topic: &str,
    before: Timestamp,
) -> QueryResult<Vec<Silent>> {
    let sql = "SELECT o.partition, count(*) AS waiting, min(o.sent_us) AS waiting_since, \
                 p.silent_us AS since, p.probe_due_us AS probe_due, COALESCE(p.probes, 0) AS probes \
               FROM outbox_sent o \
               LEFT JOIN outbox_partition p ON p.topic = $1 AND p.partition = o.partition \
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
pub(in crate::outbox) fn oldest_sent(
    conn: &mut Conn,
    partition: i32,
    paused: &[String],
) -> QueryResult<Option<EventId>> {
    let allowed = allowed(paused, conn.backend(), 2);
    let sql = format!(
        "SELECT o.id FROM outbox_sent o WHERE o.partition = $1 AND {allowed} ORDER BY o.id LIMIT 1"
    );
    let query = sql_query(sql).bind::<Integer, _>(partition);
    let row: Option<IdRow> = match conn {
        Conn::Pg(c) => query.bind::<Array<Text>, _>(paused).get_result(c).optional()?,
        Conn::Sqlite(c) => query.bind::<Text, _>(json_list(paused)?).get_result(c).optional()?,
    };
    Ok(row.map(|row| row.id))
}

/// Whether an episode of silence is under way.
pub(in crate::outbox) fn any_silence(conn: &mut Conn, topic: &str) -> QueryResult<bool> {
    let silent = outbox_partition::table
        .filter(outbox_partition::topic.eq(topic).and(outbox_partition::silent_us.is_not_null()))
        .select(outbox_partition::partition);
    let first: Option<i32> = on!(conn, c => silent.first(c).optional())?;
    Ok(first.is_some())
}

/// Notes that a partition is silent and when it is probed next; false if an answer came after `before` meanwhile.
pub(in crate::outbox) fn note_silence(
    conn: &mut Conn,
    (topic, before): (&str, Timestamp),
    silent: &Silent,
    now: Timestamp,
    next_probe: Timestamp,
) -> QueryResult<bool> {
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
    // The answers may have been settled since the silence was read; then nothing would ever end it again.
    let still_silent = p::table.find((topic, silent.partition)).filter(p::last_ack_us.le(before));
    let noted = on!(conn, c => {
        diesel::insert_into(p::table)
            .values(never_answered)
            .on_conflict_do_nothing()
            .execute(c)?;
        diesel::update(still_silent).set(state).execute(c)
    })?;
    Ok(noted > 0)
}
