//! What the relay notes: its fence, what the broker confirmed, and how much is in flight.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, column};
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{consumer_partition, outbox_failed, outbox_pending, outbox_sent, relay_lease};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text};

use super::super::lease::LeaseSet;
use super::super::model::SentRow;
use super::IdRow;
use crate::counters;

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

/// Those of `shards` that are still the owner's of `held`, locked until the transaction ends: each lock is a record in the
/// server's log, so no more than have to be.
pub(in crate::outbox) fn fence(
    conn: &mut Conn,
    held: &LeaseSet,
    shards: &BTreeSet<i16>,
) -> QueryResult<BTreeSet<i16>> {
    let mine = relay_lease::table
        .filter(relay_lease::owner.eq(&held.owner).and(relay_lease::shard.eq_any(shards)))
        .select((relay_lease::shard, relay_lease::token))
        .order(relay_lease::shard);
    let rows: Vec<(i16, i64)> = match conn {
        Conn::Pg(c) => mine.for_share().load(c)?,
        Conn::Sqlite(c) => mine.load(c)?,
    };
    let valid = rows.into_iter().filter(|(shard, token)| held.proves(*shard, *token));
    Ok(valid.map(|(shard, _)| shard).collect())
}

/// PENDING at n−1 becomes SENT at n, by compare-and-set, and is counted; returns which did.
pub(in crate::outbox) fn mark_sent(
    conn: &mut Conn,
    sent: &[Confirmation],
    now: Timestamp,
) -> QueryResult<HashSet<EventId>> {
    let mut attempts: BTreeMap<i32, Vec<Confirmation>> = BTreeMap::new();
    for confirmed in sent {
        attempts.entry(confirmed.attempt).or_default().push(*confirmed);
    }
    let mut marked: HashSet<EventId> = HashSet::with_capacity(sent.len());
    // Failed ones first, as everywhere.
    for (attempt, mut sent) in attempts.into_iter().rev() {
        sent.sort_unstable_by_key(|sent| sent.id);
        marked.extend(mark_attempt(conn, attempt, &sent, now)?);
    }
    Ok(marked)
}

/// Marks what was sent as the `attempt` of this number, sorted by id.
fn mark_attempt(
    conn: &mut Conn,
    attempt: i32,
    sent: &[Confirmation],
    now: Timestamp,
) -> QueryResult<Vec<EventId>> {
    match conn {
        Conn::Pg(c) => {
            let rows: Vec<IdRow> = sql_query(format!(
                // One round trip. Each row finds its place in the list by bisection: a join would be one of all with all.
                "WITH taken AS ({take} RETURNING id, shard, attempt_limit, size), \
                 found AS (SELECT *, width_bucket(id, $1) AS place FROM taken), \
                 marked AS (\
                   INSERT INTO outbox_sent (id, shard, attempt, attempt_limit, partition, sent_us, sent_offset, size) \
                   SELECT id, shard, $2, attempt_limit, $3[place], $4[place], $5[place], size FROM found \
                   RETURNING id), \
                 counted AS (\
                   INSERT INTO counter AS c (name, slot, value) \
                   SELECT $6, $7, count(*) FROM marked HAVING count(*) > 0 \
                   ON CONFLICT (name, slot) DO UPDATE SET value = c.value + excluded.value) \
                 SELECT id FROM marked",
                take = take(attempt),
            ))
            .bind::<Array<EventIdSql>, _>(column(sent, |s| s.id))
            .bind::<Integer, _>(attempt)
            .bind::<Array<Integer>, _>(column(sent, |s| s.partition))
            .bind::<Array<BigInt>, _>(column(sent, |s| s.sent_us))
            .bind::<Array<Nullable<BigInt>>, _>(column(sent, |s| s.offset))
            .bind::<Text, _>(counters::SENT)
            .bind::<SmallInt, _>(counters::slot(now))
            .load(c)?;
            Ok(rows.into_iter().map(|row| row.id).collect())
        }
        Conn::Sqlite(c) => {
            let marked = mark_in_parts(c, attempt, sent)?;
            if !marked.is_empty() {
                counters::add(conn, counters::SENT, now, marked.len())?;
            }
            Ok(marked)
        }
    }
}

/// Takes out what is PENDING before this attempt: each by its id and by nothing else. Joined with a list, or with a
/// condition that fits another index, it would be a walk over the whole backlog where statistics are stale: `status <> 2`
/// fits no index, `status = 0` would. For the same reason the plan is not kept: it would outlive an empty table.
fn take(attempt: i32) -> &'static str {
    match attempt {
        1 => "DELETE FROM outbox_pending WHERE id = ANY($1)",
        _ => "DELETE FROM outbox_failed WHERE id = ANY($1) AND status <> 2 AND attempt = $2 - 1",
    }
}

/// In parts that have few enough parameters.
fn mark_in_parts(
    conn: &mut SqliteConnection,
    attempt: i32,
    sent: &[Confirmation],
) -> QueryResult<Vec<EventId>> {
    let mut marked = Vec::with_capacity(sent.len());
    for sent in sent.chunks(ROWS_PER_INSERT) {
        let ids: Vec<EventId> = sent.iter().map(|sent| sent.id).collect();
        let taken = take_from_sqlite(conn, attempt, &ids)?;
        let mut taken: HashMap<EventId, Taken> =
            taken.into_iter().map(|row| (row.id, row)).collect();
        let row = |sent: &Confirmation| {
            let Taken { id, shard, attempt_limit, size } = taken.remove(&sent.id)?;
            Some(SentRow {
                id,
                shard,
                attempt,
                attempt_limit,
                partition: sent.partition,
                sent_us: sent.sent_us,
                sent_offset: sent.offset,
                size,
            })
        };
        let rows: Vec<SentRow> = sent.iter().filter_map(row).collect();
        if !rows.is_empty() {
            diesel::insert_into(outbox_sent::table).values(&rows).execute(conn)?;
        }
        marked.extend(rows.into_iter().map(|row| row.id));
    }
    Ok(marked)
}

/// What a row that is taken out of its place leaves to the next one.
#[derive(Debug, Queryable)]
struct Taken {
    id: EventId,
    shard: i16,
    attempt_limit: i32,
    size: i32,
}

/// As [`take`] says.
fn take_from_sqlite(
    conn: &mut SqliteConnection,
    attempt: i32,
    ids: &[EventId],
) -> QueryResult<Vec<Taken>> {
    use {outbox_failed as f, outbox_pending as p};
    match attempt {
        1 => diesel::delete(p::table.filter(p::id.eq_any(ids)))
            .returning((p::id, p::shard, p::attempt_limit, p::size))
            .get_results(conn),
        _ => {
            let pending = f::status.ne(2).and(f::attempt.eq(attempt - 1));
            diesel::delete(f::table.filter(f::id.eq_any(ids)).filter(pending))
                .returning((f::id, f::shard, f::attempt_limit, f::size))
                .get_results(conn)
        }
    }
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
