//! How far a database has taken a topic, and how that shows that it came back from a backup.
//!
//! A group's offsets are committed only once the database has the batch. So the position that is stored with each batch
//! is never below what the group has committed, unless the database is older than its own answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, ROWS_PER_INSERT};
use common::env::Env;
use common::on;
use common::schema::read_position;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text};

use super::model;
use crate::kafka::{Consumer, Record};

/// How often a broker is asked what is committed, before nothing is judged.
const TRIES: usize = 3;

/// Partitions that an alert names.
const NAMED: usize = 8;

/// The greater of two positions: a batch that comes again, or late from another hand, takes nothing back.
const GREATER: &str = "CASE WHEN excluded.next_offset > read_position.next_offset \
                       THEN excluded.next_offset ELSE read_position.next_offset END";

/// The positions of one topic in one service's database; clones share what is known of them.
#[derive(Clone)]
pub struct ReadPositions {
    service: String,
    topic: String,
    /// How far the database surely was: what the group had committed, and what this process has written since.
    known: Arc<Mutex<BTreeMap<i32, i64>>>,
}

/// A stored position.
#[derive(Debug, Clone, Copy, Queryable)]
struct Position {
    partition: i32,
    next_offset: i64,
    at_us: Timestamp,
}

/// A partition whose stored position is below what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    partition: i32,
    stored: i64,
    known: i64,
    /// When the stored position was written.
    at: Timestamp,
}

/// What a look at partitions found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looked {
    /// Whether the database was found to be behind, for the first time.
    found: bool,
    /// Partitions that are stored further than is committed: after a crash, or of a topic that was made anew.
    ahead: Vec<(i32, i64)>,
}

impl ReadPositions {
    /// Those of `topic` in the database of `service`; nothing is known yet.
    pub fn new(service: &str, topic: &str) -> Self {
        let (service, topic) = (service.to_owned(), topic.to_owned());
        Self { service, topic, known: Arc::default() }
    }

    /// Whose database it is.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Notes in the transaction of a batch that the database has `records`; says so if it turns out to be behind.
    ///
    /// The caller tells [`ReadPositions::took`] once that is committed.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn note(&self, conn: &mut Conn, now: Timestamp, records: &[Record]) -> QueryResult<()> {
        let taken = self.next_offsets(records);
        if taken.is_empty() {
            return Ok(());
        }
        let known = self.known().clone();
        if go_on(conn, &self.topic, &taken, &known, now)? {
            return Ok(());
        }
        let stored = stored(conn, &self.topic)?;
        let behind: Vec<Behind> =
            behind(&stored, &known).filter(|one| taken.contains_key(&one.partition)).collect();
        if !behind.is_empty() {
            self.tell(conn, now, &behind)?;
        }
        advance(conn, &self.topic, &taken, now)
    }

    /// What was noted of `records` is committed.
    pub fn took(&self, records: &[Record]) {
        let mut known = self.known();
        for (partition, next) in self.next_offsets(records) {
            let known = known.entry(partition).or_insert(next);
            *known = next.max(*known);
        }
    }

    /// Looks at the partitions that `consumer` was assigned, before anything of them is taken. What can't be looked at is
    /// not judged, and the reading goes on.
    pub async fn look(&self, db: &Db, env: &Env, consumer: &Consumer) {
        let assigned = consumer.assigned();
        if assigned.is_empty() {
            return;
        }
        let Some(committed) = committed(consumer, &assigned).await else { return };
        if let Err(error) = self.compare(db, env, consumer, &assigned, committed).await {
            let topic = &self.topic;
            tracing::warn!(%error, topic, "whether the database is behind could not be looked at");
        }
    }

    async fn compare(
        &self,
        db: &Db,
        env: &Env,
        consumer: &Consumer,
        assigned: &BTreeSet<i32>,
        committed: BTreeMap<i32, i64>,
    ) -> Result<(), DbError> {
        let (positions, partitions, now) = (self.clone(), assigned.clone(), env.now());
        let offsets = committed.clone();
        let looked = db.write::<_, DbError>(move |conn| {
            Ok(positions.compare_in(conn, now, &partitions, &offsets)?)
        });
        let Looked { found, ahead } = looked.await?;
        if found {
            let (service, topic) = (&self.service, &self.topic);
            tracing::error!(service, topic, "the database is behind: it came back from a backup");
        }
        let mut anew = BTreeMap::new();
        for (partition, stored) in ahead {
            // A partition that ends before what was taken of it is of a topic that was made anew.
            if consumer.end_of(partition).await.is_ok_and(|end| end < stored) {
                let next = committed.get(&partition).copied().unwrap_or(0);
                anew.insert(partition, (stored, next));
            }
        }
        if !anew.is_empty() {
            let topic = self.topic.clone();
            db.write::<_, DbError>(move |conn| Ok(begin_anew(conn, &topic, &anew, now)?)).await?;
        }
        Ok(())
    }

    /// Compares what is stored with what the group has committed, which was asked for before.
    fn compare_in(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        assigned: &BTreeSet<i32>,
        committed: &BTreeMap<i32, i64>,
    ) -> QueryResult<Looked> {
        let stored = stored(conn, &self.topic)?;
        let behind: Vec<Behind> = behind(&stored, committed).collect();
        let found = !behind.is_empty() && self.tell(conn, now, &behind)?;
        // The first look judges nothing, and what is told is not told again.
        let at = |partition: &i32| (*partition, committed.get(partition).copied().unwrap_or(0));
        let unknown = assigned.iter().filter(|partition| !stored.contains_key(partition));
        let mut next: BTreeMap<i32, i64> = unknown.map(at).collect();
        next.extend(behind.iter().map(|one| (one.partition, one.known)));
        advance(conn, &self.topic, &next, now)?;
        *self.known() = self.known_after(assigned, committed);
        let ahead = assigned.iter().filter_map(|partition| {
            let stored = stored.get(partition)?.next_offset;
            (stored > at(partition).1).then_some((*partition, stored))
        });
        Ok(Looked { found, ahead: ahead.collect() })
    }

    /// What was known of the assigned partitions may be of a topic that is gone.
    fn known_after(
        &self,
        assigned: &BTreeSet<i32>,
        committed: &BTreeMap<i32, i64>,
    ) -> BTreeMap<i32, i64> {
        let mut known = self.known().clone();
        known.retain(|partition, _| !assigned.contains(partition));
        known.extend(committed);
        known
    }

    /// Puts down that the database is behind; false: that is known.
    fn tell(&self, conn: &mut Conn, now: Timestamp, behind: &[Behind]) -> QueryResult<bool> {
        // These rows are as they came back, whatever was taken of others since.
        let since = behind.iter().map(|one| one.at).max();
        model::found(conn, now, &self.service, since, &self.detail(behind))
    }

    fn detail(&self, behind: &[Behind]) -> String {
        let named = behind.iter().take(NAMED).map(|one| {
            let Behind { partition, stored, known, .. } = one;
            format!("partition {partition}: {stored}, answered up to {known}")
        });
        let more = match behind.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} partitions more"),
        };
        let (service, topic) = (&self.service, &self.topic);
        let named: Vec<String> = named.collect();
        format!(
            "{service} has answered messages of the topic {topic} that its database does not know of ({}{more})",
            named.join("; ")
        )
    }

    /// The offset behind the last record of each partition.
    fn next_offsets(&self, records: &[Record]) -> BTreeMap<i32, i64> {
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        for record in records.iter().filter(|record| record.topic == self.topic) {
            let behind = record.offset.saturating_add(1);
            let next = next.entry(record.partition).or_insert(behind);
            *next = behind.max(*next);
        }
        next
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the group has committed; none, if the broker does not say so.
async fn committed(consumer: &Consumer, assigned: &BTreeSet<i32>) -> Option<BTreeMap<i32, i64>> {
    for _ in 0..TRIES {
        match consumer.committed(assigned).await {
            Ok(committed) => return Some(committed),
            Err(error) => {
                let topic = consumer.topic();
                tracing::warn!(%error, topic, "what is committed is not known yet");
                consumer.keep_alive().await;
            }
        }
    }
    None
}

fn behind<'a>(
    stored: &'a BTreeMap<i32, Position>,
    known: &'a BTreeMap<i32, i64>,
) -> impl Iterator<Item = Behind> + 'a {
    known.iter().filter_map(|(partition, known)| {
        let Position { partition, next_offset, at_us } = *stored.get(partition)?;
        let behind = Behind { partition, stored: next_offset, known: *known, at: at_us };
        (next_offset < *known).then_some(behind)
    })
}

/// The positions of a topic by partition.
fn stored(conn: &mut Conn, topic: &str) -> QueryResult<BTreeMap<i32, Position>> {
    use read_position as p;
    let rows = p::table.filter(p::topic.eq(topic)).select((p::partition, p::next_offset, p::at_us));
    let rows: Vec<Position> = on!(conn, c => rows.load(c))?;
    Ok(rows.into_iter().map(|row| (row.partition, row)).collect())
}

/// Moves positions on where none is below what is known, as it usually is; false where one may be, and on SQLite, where a
/// second statement costs nothing.
fn go_on(
    conn: &mut Conn,
    topic: &str,
    next: &BTreeMap<i32, i64>,
    known: &BTreeMap<i32, i64>,
    now: Timestamp,
) -> QueryResult<bool> {
    let Conn::Pg(c) = conn else { return Ok(false) };
    let known = |partition| known.get(partition).copied().unwrap_or(i64::MIN);
    let moved = sql_query(
        "UPDATE read_position p SET next_offset = greatest(p.next_offset, n.upto), at_us = $2 \
         FROM unnest($3, $4, $5) AS n (part, upto, known) \
         WHERE p.topic = $1 AND p.partition = n.part AND p.next_offset >= n.known",
    )
    .bind::<Text, _>(topic)
    .bind::<BigInt, _>(now.micros())
    .bind::<Array<Integer>, _>(next.keys().copied().collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(next.values().copied().collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(next.keys().map(known).collect::<Vec<_>>())
    .execute(c)?;
    Ok(moved == next.len())
}

/// Moves positions on; none goes back.
fn advance(
    conn: &mut Conn,
    topic: &str,
    next: &BTreeMap<i32, i64>,
    now: Timestamp,
) -> QueryResult<()> {
    use read_position as p;
    let row = |(partition, next): (&i32, &i64)| {
        (
            p::topic.eq(topic.to_owned()),
            p::partition.eq(*partition),
            p::next_offset.eq(*next),
            p::at_us.eq(now.micros()),
        )
    };
    let rows: Vec<_> = next.iter().map(row).collect();
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        on!(&mut *conn, c => diesel::insert_into(p::table)
            .values(chunk)
            .on_conflict((p::topic, p::partition))
            .do_update()
            .set((
                p::next_offset.eq(sql::<BigInt>(GREATER)),
                p::at_us.eq(diesel::upsert::excluded(p::at_us)),
            ))
            .execute(c))?;
    }
    Ok(())
}

/// Takes positions back that belong to a topic that is gone, unless they have moved since.
fn begin_anew(
    conn: &mut Conn,
    topic: &str,
    anew: &BTreeMap<i32, (i64, i64)>,
    now: Timestamp,
) -> QueryResult<()> {
    use read_position as p;
    for (partition, (stored, next)) in anew {
        let row = p::table.find((topic, partition)).filter(p::next_offset.eq(stored));
        let change = (p::next_offset.eq(next), p::at_us.eq(now.micros()));
        on!(&mut *conn, c => diesel::update(row).set(change).execute(c))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests/position.rs"]
mod tests;
