//! What nobody reports: events passed by, and silent partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, json_list};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{consumer_partition, outbox_sent};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::super::SHARDS;
use super::IdRow;
use super::due::{allowed, numbers};

/// What is asked of one consumer.
#[derive(Debug, Clone)]
pub(in crate::outbox) struct AskedOf<'a> {
    pub(in crate::outbox) topic: &'a str,
    pub(in crate::outbox) consumer: &'a str,
    /// The first event that it owes an answer.
    pub(in crate::outbox) since: EventId,
}

/// Which events `o` still wait for the consumer `$consumer` that owes answers since `$since`.
///
/// Parameters stand in the order of their numbers, for SQLite's sake.
fn owed(since: usize, consumer: usize) -> String {
    format!(
        "o.id >= ${since} AND NOT EXISTS (SELECT 1 FROM outbox_answer a \
           WHERE a.event_id = o.id AND a.consumer = ${consumer} AND a.outcome < 2)"
    )
}

/// SENT events that a consumer has passed by, oldest first: sent long enough ago, and something that lies behind
/// them in their partition was answered some looks ago.
///
/// Where it is not known where they lie, since an older release sent them, they have until `unplaced_before`.
pub(in crate::outbox) fn overdue(
    conn: &mut Conn,
    of: &AskedOf<'_>,
    sent_before: Timestamp,
    unplaced_before: Timestamp,
    limit: i64,
) -> QueryResult<Vec<EventId>> {
    let sql = format!(
        "SELECT o.id FROM outbox_sent o \
         JOIN consumer_partition p ON p.topic = $1 AND p.partition = o.partition AND p.consumer = $2 \
         WHERE {} AND ((o.sent_us <= $4 AND o.sent_offset < p.passed_offset) \
           OR (o.sent_us <= $5 AND o.sent_offset IS NULL AND o.sent_us < p.last_ack_us)) \
         ORDER BY o.id LIMIT $6",
        owed(3, 2)
    );
    let rows: Vec<IdRow> = on!(conn, c => sql_query(sql)
        .bind::<Text, _>(of.topic)
        .bind::<Text, _>(of.consumer)
        .bind::<EventIdSql, _>(of.since)
        .bind::<BigInt, _>(sent_before)
        .bind::<BigInt, _>(unplaced_before)
        .bind::<BigInt, _>(limit)
        .load(c))?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Whether anything was sent in the future, or waits for another attempt that is due after `latest`, when any would be: a
/// clock ran ahead and was set right.
pub(in crate::outbox) fn any_ahead(
    conn: &mut Conn,
    now: Timestamp,
    latest: Timestamp,
) -> QueryResult<bool> {
    use outbox_sent as s;
    let sent = s::table.filter(s::sent_us.gt(now)).select(s::id);
    let again = format!("SELECT id FROM outbox_failed WHERE {} AND due_us > $1 LIMIT 1", again());
    on!(conn, c => {
        let again = sql_query(again).bind::<BigInt, _>(latest);
        Ok(sent.first::<EventId>(c).optional()?.is_some()
            || again.get_result::<IdRow>(c).optional()?.is_some())
    })
}

/// What was sent in the future was sent `now`: else it would not be overdue until the clock gets there again. What waits for
/// an attempt after `latest` is due `now`: else it would not be sent until then.
pub(in crate::outbox) fn set_right(
    conn: &mut Conn,
    now: Timestamp,
    latest: Timestamp,
) -> QueryResult<()> {
    use outbox_sent as s;
    let ahead = s::table.filter(s::sent_us.gt(now));
    let again = format!("UPDATE outbox_failed SET due_us = $1 WHERE {} AND due_us > $2", again());
    on!(conn, c => {
        diesel::update(ahead).set(s::sent_us.eq(now)).execute(c)?;
        sql_query(again).bind::<BigInt, _>(now).bind::<BigInt, _>(latest).execute(c)
    })
    .map(drop)
}

/// The condition of what waits for another attempt; the index by due times begins with the shard.
fn again() -> String {
    format!("status = 0 AND shard IN ({})", numbers(0..SHARDS))
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
    use consumer_partition as p;
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

/// The partitions in which a consumer owes answers, of which the oldest is missing, and its last was given, since `before`.
pub(in crate::outbox) fn silent(
    conn: &mut Conn,
    of: &AskedOf<'_>,
    before: Timestamp,
) -> QueryResult<Vec<Silent>> {
    let sql = format!(
        "SELECT o.partition, count(*) AS waiting, min(o.sent_us) AS waiting_since, \
           p.silent_us AS since, p.probe_due_us AS probe_due, COALESCE(p.probes, 0) AS probes \
         FROM outbox_sent o \
         LEFT JOIN consumer_partition p \
           ON p.topic = $1 AND p.partition = o.partition AND p.consumer = $2 \
         WHERE {} \
         GROUP BY o.partition, p.silent_us, p.probe_due_us, p.probes, p.last_ack_us \
         HAVING min(o.sent_us) <= $4 AND COALESCE(p.last_ack_us, 0) <= $4 \
         ORDER BY o.partition",
        owed(3, 2)
    );
    on!(conn, c => sql_query(sql)
        .bind::<Text, _>(of.topic)
        .bind::<Text, _>(of.consumer)
        .bind::<EventIdSql, _>(of.since)
        .bind::<BigInt, _>(before)
        .load(c))
}

/// The oldest event of a partition that waits for a consumer's answer, and whose key is none of `paused`.
pub(in crate::outbox) fn oldest_sent(
    conn: &mut Conn,
    of: &AskedOf<'_>,
    partition: i32,
    paused: &[String],
) -> QueryResult<Option<EventId>> {
    let allowed = allowed(paused, conn.backend(), 4);
    let sql = format!(
        "SELECT o.id FROM outbox_sent o WHERE o.partition = $1 AND {} AND {allowed} \
         ORDER BY o.id LIMIT 1",
        owed(2, 3)
    );
    let query = sql_query(sql)
        .bind::<Integer, _>(partition)
        .bind::<EventIdSql, _>(of.since)
        .bind::<Text, _>(of.consumer);
    let row: Option<IdRow> = match conn {
        Conn::Pg(c) => query.bind::<Array<Text>, _>(paused).get_result(c).optional()?,
        Conn::Sqlite(c) => query.bind::<Text, _>(json_list(paused)?).get_result(c).optional()?,
    };
    Ok(row.map(|row| row.id))
}

/// Whether an episode of a consumer's silence is under way.
pub(in crate::outbox) fn any_silence(conn: &mut Conn, of: &AskedOf<'_>) -> QueryResult<bool> {
    use consumer_partition as p;
    let silent = p::table
        .filter(p::topic.eq(of.topic).and(p::consumer.eq(of.consumer)))
        .filter(p::silent_us.is_not_null())
        .select(p::partition);
    let first: Option<i32> = on!(conn, c => silent.first(c).optional())?;
    Ok(first.is_some())
}

/// Notes that a partition is silent and when it is probed next; false if an answer came after `before` meanwhile.
pub(in crate::outbox) fn note_silence(
    conn: &mut Conn,
    (of, before): (&AskedOf<'_>, Timestamp),
    silent: &Silent,
    now: Timestamp,
    next_probe: Timestamp,
) -> QueryResult<bool> {
    use consumer_partition as p;
    let since = silent.since.unwrap_or(now);
    let state = (
        p::silent_us.eq(Some(since)),
        p::probe_due_us.eq(Some(next_probe)),
        p::probes.eq(silent.probes + 1),
    );
    let never_answered = (
        p::topic.eq(of.topic),
        p::partition.eq(silent.partition),
        p::consumer.eq(of.consumer),
        p::last_ack_us.eq(0),
    );
    // The answers may have been settled since the silence was read; then nothing would ever end it again.
    let still_silent =
        p::table.find((of.topic, silent.partition, of.consumer)).filter(p::last_ack_us.le(before));
    let noted = on!(conn, c => {
        diesel::insert_into(p::table)
            .values(never_answered)
            .on_conflict_do_nothing()
            .execute(c)?;
        diesel::update(still_silent).set(state).execute(c)
    })?;
    Ok(noted > 0)
}

/// What is known of a consumer in a partition.
#[derive(Debug, Queryable)]
struct Reached {
    partition: i32,
    consumer: String,
    acked: i64,
    last_ack: Timestamp,
    behind: Option<Timestamp>,
}

/// Notes since when watched consumers are behind others that went on answering for longer than `grace`; returns those
/// that answer nothing since `before`.
pub(in crate::outbox) fn watched_silent(
    conn: &mut Conn,
    topic: &str,
    consumers: &[&str],
    (now, before, grace): (Timestamp, Timestamp, Duration),
) -> QueryResult<Vec<(String, i32, Timestamp)>> {
    use consumer_partition as p;
    let columns = (p::partition, p::consumer, p::acked_offset, p::last_ack_us, p::behind_us);
    type Columns = (i32, String, Option<i64>, Timestamp, Option<Timestamp>);
    let rows: Vec<Columns> = on!(&mut *conn, c => p::table
        .filter(p::topic.eq(topic))
        .order((p::partition, p::consumer))
        .select(columns)
        .load(c))?;
    let known = |(partition, consumer, acked, last_ack, behind): Columns| Reached {
        partition,
        consumer,
        acked: acked.unwrap_or(-1),
        last_ack,
        behind,
    };
    let rows: Vec<Reached> = rows.into_iter().map(known).collect();
    let mut furthest: BTreeMap<i32, &Reached> = BTreeMap::new();
    for row in &rows {
        let known = furthest.entry(row.partition).or_insert(row);
        if (known.acked, known.last_ack) < (row.acked, row.last_ack) {
            *known = row;
        }
    }
    let mut silent = Vec::new();
    for consumer in consumers {
        for (partition, furthest) in &furthest {
            let own =
                rows.iter().find(|row| row.partition == *partition && row.consumer == *consumer);
            let (acked, last_ack) =
                own.map_or((-1, Timestamp::default()), |own| (own.acked, own.last_ack));
            // Its newest answer may have come before its event was noted as sent, and prove nothing of where it is.
            if acked >= furthest.acked || furthest.last_ack <= last_ack.after(grace) {
                continue;
            }
            match own.and_then(|own| own.behind) {
                None => note_behind(conn, (topic, *partition, consumer), now)?,
                Some(since) if since <= before => {
                    silent.push(((*consumer).to_owned(), *partition, since));
                }
                Some(_) => {}
            }
        }
    }
    Ok(silent)
}

fn note_behind(
    conn: &mut Conn,
    (topic, partition, consumer): (&str, i32, &str),
    now: Timestamp,
) -> QueryResult<()> {
    use consumer_partition as p;
    let first = (
        p::topic.eq(topic),
        p::partition.eq(partition),
        p::consumer.eq(consumer),
        p::last_ack_us.eq(0),
        p::probes.eq(0),
        p::behind_us.eq(Some(now)),
    );
    on!(conn, c => diesel::insert_into(p::table)
        .values(first)
        .on_conflict((p::topic, p::partition, p::consumer))
        .do_update()
        .set(p::behind_us.eq(Some(now)))
        .execute(c))
    .map(drop)
}
