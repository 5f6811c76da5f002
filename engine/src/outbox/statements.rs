//! The relay's statements by themselves, with no broker: what a database has to do for a backlog that is sent.
//!
//! Nothing is sent by them, so they are for measuring only: run on a service's database, they would lose its events. A
//! service that is built by itself does not have them: they are behind the feature `measure`, which only `loadgen` asks for.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::env::Env;
use diesel::QueryResult;

use super::lease::LeaseSet;
use super::position::Position;
use super::store::{self, Confirmation, DueRow, Fresh, ShardRead};
use super::{SHARDS, partition_of};

/// Runs on one connection what a relay runs on its pool, one statement after the other.
pub struct RelayStatements {
    env: Env,
    held: LeaseSet,
    partitions: i32,
    batch: usize,
    /// Behind what was noted, by shard.
    positions: BTreeMap<i16, Position>,
    /// The offset that the next event is given.
    offset: i64,
}

impl RelayStatements {
    /// For the shards of `held`, on a topic of so many partitions, up to `batch` events in a step.
    pub fn new(env: Env, held: LeaseSet, partitions: i32, batch: usize) -> Self {
        Self { env, held, partitions, batch, positions: BTreeMap::new(), offset: 0 }
    }

    /// One step: reads what is due and notes it as SENT; returns how many events that were.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn run_once(&mut self, conn: &mut Conn) -> QueryResult<usize> {
        let rows = self.read(conn)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let noted = self.note(conn, &rows)?;
        for row in &rows {
            let read = Position { tx: row.tx, id: row.id };
            let at = self.positions.entry(row.shard).or_insert(read);
            *at = read.max(*at);
        }
        Ok(noted)
    }

    fn read(&self, conn: &mut Conn) -> QueryResult<Vec<DueRow>> {
        let (now, batch) = (self.env.now(), self.batch);
        let limit = i64::try_from(batch).unwrap_or(i64::MAX);
        let shards = (0..SHARDS).filter(|shard| self.held.tokens.contains_key(shard));
        let read = |shard| {
            let after = self.positions.get(&shard).copied().unwrap_or(Position::BEGINNING);
            ShardRead { shard, after, limit }
        };
        let reads: Vec<ShardRead> = shards.map(read).collect();
        conn.read_by_index(|conn| {
            let paused = store::snapshot(conn)?.paused;
            store::due(conn, (now, Fresh::All), &reads, None, &paused.keys, batch)
        })
    }

    fn note(&mut self, conn: &mut Conn, rows: &[DueRow]) -> QueryResult<usize> {
        let (now, partitions) = (self.env.now(), self.partitions);
        let mut sent: Vec<Confirmation> = Vec::with_capacity(rows.len());
        for row in rows {
            self.offset += 1;
            sent.push(Confirmation {
                id: row.id,
                shard: row.shard,
                attempt: row.attempt + 1,
                partition: partition_of(row.shard, partitions),
                offset: Some(self.offset),
                sent_us: now,
            });
        }
        let shards: BTreeSet<i16> = sent.iter().map(|sent| sent.shard).collect();
        conn.transaction_by_index(|conn| {
            let mine = store::fence(conn, &self.held, &shards)?;
            sent.retain(|sent| mine.contains(&sent.shard));
            Ok(store::mark_sent(conn, &sent, now)?.len())
        })
    }
}
