//! What a step of the relay takes to send: of the log or of the table, as far as there is room.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::db::{Conn, DbError};

use super::lease::LeaseSet;
use super::log::{Ended, LogFeed, Place, TablesShare, Taken};
use super::position::{Positions, ReadState, Sight};
use super::relay::Relay;
use super::send::Origin;
use super::store::{self, DueRow, Fresh, ShardRead, Snapshot};
use super::{SHARDS, partition_of};

/// How soon what the log told of is looked at again, where its transaction is not seen yet.
const UNTIL_SEEN: Duration = Duration::from_millis(2);

/// How many batches a step takes of the log at the most. They cost no read, so what bounds them is the room in flight.
const BATCHES_OF_LOG: usize = 4;

/// What goes to one partition, and where it came from.
pub(super) type Batch = (Vec<DueRow>, Origin);

/// What a step read of the table.
#[derive(Default)]
struct Read {
    state: ReadState,
    rows: Vec<DueRow>,
}

impl Relay {
    /// How many events a step takes at the most, of the table or of the log.
    pub(super) fn most(&self, is_tables: bool) -> usize {
        if is_tables { self.batch() } else { self.batch().saturating_mul(BATCHES_OF_LOG) }
    }

    /// What the log has brought, as far as there is room; returns how much was found, and it by partition.
    pub(super) async fn take_from_log(
        &self,
        shards: &[i16],
        room: &mut BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<(usize, BTreeMap<i32, Batch>), DbError> {
        if self.log.is_empty() {
            return Ok((0, BTreeMap::new()));
        }
        let read = |conn: &mut Conn| Ok::<_, DbError>(store::snapshot(conn)?);
        let Snapshot { paused, ended, .. } = self.parts.db.read(read).await?;
        if paused.everything {
            self.log.leave_all();
            return Ok((0, BTreeMap::new()));
        }
        let keys: HashSet<&str> = paused.keys.iter().map(String::as_str).collect();
        let is_paused = |row: &DueRow| keys.contains(row.key.as_str());
        // The log tells of a commit before others see it; what is not seen can't be marked, and an answer to it not settled.
        let is_seen = |row: &DueRow| ended.as_ref().is_some_and(|ended| ended.has(row.tx));
        let (mut all_seen, most) = (true, self.most(false));
        let taken = self.log.take(shards, most, |row| {
            all_seen &= is_seen(row);
            is_seen(row) && (is_paused(row) || take_room(room, row, partitions))
        });
        if !all_seen {
            self.wake_in(UNTIL_SEEN);
        }
        self.end_turn(shards, &taken.rows, most);
        let found = taken.rows.len();
        let (Taken { rows, places }, left) = taken.split(|row| !is_paused(row));
        self.log.finish(left);
        let mut batches: BTreeMap<i32, (Vec<DueRow>, Vec<Place>)> = BTreeMap::new();
        for (row, place) in rows.into_iter().zip(places) {
            self.parts.in_flight.leaves(row.shard, i64::from(row.size));
            let batch = batches.entry(partition_of(row.shard, partitions)).or_default();
            batch.0.push(row);
            batch.1.push(place);
        }
        let by_log = |(partition, (rows, places))| (partition, (rows, Origin::Log(places)));
        Ok((found, batches.into_iter().map(by_log).collect()))
    }

    /// What is due in the table, as far as there is room; returns how much was found, and it by partition.
    pub(super) async fn take_from_table(
        &self,
        held: &LeaseSet,
        shards: Vec<i16>,
        room: &mut BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<(usize, BTreeMap<i32, Batch>), DbError> {
        let Read { mut state, rows } = self.read(held, shards, room, partitions).await?;
        let found = rows.len();
        if found < self.batch() && self.log.is_empty() {
            let waiting = rows.iter().map(|row| partition_of(row.shard, partitions)).collect();
            self.backoff.forget_idle(room, &waiting);
        }
        let mut batches: BTreeMap<i32, Vec<DueRow>> = BTreeMap::new();
        for row in rows {
            if take_room(room, &row, partitions) {
                self.parts.in_flight.leaves(row.shard, i64::from(row.size));
                batches.entry(partition_of(row.shard, partitions)).or_default().push(row);
            } else {
                state.whole.remove(&row.shard);
            }
        }
        batches.values_mut().for_each(|rows| sort_by_version(rows));
        let read = |(partition, rows)| (partition, (rows, Origin::Table(state.clone())));
        Ok((found, batches.into_iter().map(read).collect()))
    }

    async fn read(
        &self,
        held: &LeaseSet,
        shards: Vec<i16>,
        room: &BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<Read, DbError> {
        let (now, batch) = (self.parts.env.now(), self.batch());
        let most = i64::try_from(batch).unwrap_or(i64::MAX);
        let limit = |shard: &i16| {
            room.get(&partition_of(*shard, partitions)).map_or(0, |(events, _)| most.min(*events))
        };
        let limits: Vec<i64> = shards.iter().map(limit).collect();
        let (positions, leases, order) =
            (Arc::clone(&self.positions), held.clone(), shards.clone());
        let (log, first_attempts) = (self.log.clone(), self.parts.first_attempts);
        let db = self.parts.db.clone();
        let read = self.parts.db.read::<_, DbError>(move |conn| {
            let due = |conn: &mut Conn| {
                let share = log.of_the_table();
                let Snapshot { paused, ended, horizon, started } = store::snapshot(conn)?;
                let ended = tables_share(share, ended, &log);
                if paused.everything {
                    return Ok(Read::default());
                }
                let seen = ended.as_ref().map_or(i64::MAX, |ended| ended.xmin);
                let horizon = horizon.min(seen);
                let fresh = first_attempts.fresh(conn, now)?;
                let (generation, after) = match fresh {
                    Fresh::All => {
                        // Asked for on a connection that is counted.
                        let connections = db.connections_made();
                        let sight = Sight { horizon, started, connections };
                        positions.read(&leases, &shards, &paused.keys, sight)
                    }
                    _ => Positions::none(&shards),
                };
                let reads = shards.iter().zip(after).zip(limits);
                let reads: Vec<ShardRead> = reads
                    .map(|((shard, after), limit)| ShardRead { shard: *shard, after, limit })
                    .collect();
                let at = (now, fresh);
                let rows = store::due(conn, at, &reads, ended.as_ref(), &paused.keys, batch)?;
                let whole = match fresh {
                    Fresh::All => whole(&reads, &rows, batch),
                    _ => BTreeSet::new(),
                };
                Ok(Read { state: ReadState { generation, horizon, whole }, rows })
            };
            Ok(conn.read_by_index(due)?)
        });
        let read = read.await?;
        self.end_turn(&order, &read.rows, batch);
        let busy: BTreeSet<i16> = read.rows.iter().map(|row| row.shard).collect();
        for shard in read.state.whole.difference(&busy) {
            let ReadState { generation, .. } = read.state;
            self.positions.advance(generation, held, *shard, read.state.end());
        }
        Ok(read)
    }

    /// The held shards whose partitions have room, beginning with the one whose turn it is.
    pub(super) fn shards_in_turn(
        &self,
        held: &LeaseSet,
        room: &BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Vec<i16> {
        let first = self.first.load(Ordering::Relaxed);
        (0..SHARDS)
            .map(|shard| (first + shard) % SHARDS)
            .filter(|shard| held.tokens.contains_key(shard))
            .filter(|shard| room.contains_key(&partition_of(*shard, partitions)))
            .collect()
    }

    /// The next step begins behind the shard in which this one was cut, at `most` events.
    fn end_turn(&self, order: &[i16], rows: &[DueRow], most: usize) {
        let (fresh, again): (Vec<&DueRow>, Vec<&DueRow>) =
            rows.iter().partition(|row| row.attempt == 0);
        let cut = [fresh, again].into_iter().find(|page| page.len() >= most);
        let Some(page) = cut else { return };
        let read: BTreeSet<i16> = page.iter().map(|row| row.shard).collect();
        if let Some(last) = order.iter().rev().find(|shard| read.contains(shard)) {
            self.first.store((last + 1) % SHARDS, Ordering::Relaxed);
        }
    }
}

/// The transactions whose events the table has, `ended` being those that have ended since its `share` was asked for;
/// `None`: all. Reads come one after the other, so what earlier ones saw had ended before the snapshot that the log is
/// followed from.
fn tables_share(share: TablesShare, ended: Option<Ended>, log: &LogFeed) -> Option<Ended> {
    match share {
        TablesShare::All => None,
        TablesShare::Of(ended) => Some(ended),
        TablesShare::Last(session) => ended.filter(|ended| log.follow(session, ended)),
    }
}

/// Those of `reads` of which `rows` hold all that was never sent: neither the shard's own page nor that of all was cut.
fn whole(reads: &[ShardRead], rows: &[DueRow], batch: usize) -> BTreeSet<i16> {
    let mut found: BTreeMap<i16, i64> = BTreeMap::new();
    rows.iter()
        .filter(|row| row.attempt == 0)
        .for_each(|row| *found.entry(row.shard).or_default() += 1);
    let is_cut = found.values().sum::<i64>() >= i64::try_from(batch).unwrap_or(i64::MAX);
    let last = reads.iter().rposition(|read| found.contains_key(&read.shard));
    let read_to_end = if is_cut { last.unwrap_or(0) } else { reads.len() };
    let own = |read: &&ShardRead| found.get(&read.shard).is_none_or(|found| *found < read.limit);
    reads.iter().take(read_to_end).filter(own).map(|read| read.shard).collect()
}

/// Puts each key's events in the order of its versions, where transactions had another: of two that waited for one product,
/// the later may have the smaller number. What was left out of a page is not behind what it holds, then.
fn sort_by_version(rows: &mut [DueRow]) {
    let mut newest: HashMap<&str, (i64, i64)> = HashMap::with_capacity(rows.len());
    let is_in_order = rows.iter().all(|row| {
        let version = (row.epoch, row.version);
        newest.insert(&row.key, version).is_none_or(|before| before <= version)
    });
    if !is_in_order {
        rows.sort_by(|one, other| {
            let place = |row: &DueRow| (row.epoch, row.version);
            one.key.cmp(&other.key).then_with(|| place(one).cmp(&place(other)))
        });
    }
}

/// Takes a place for `row`; the last event of a partition may exceed the bytes, so that a large one passes.
fn take_room(room: &mut BTreeMap<i32, (i64, i64)>, row: &DueRow, partitions: i32) -> bool {
    let Some((events, bytes)) = room.get_mut(&partition_of(row.shard, partitions)) else {
        return false;
    };
    if *events <= 0 || *bytes <= 0 {
        return false;
    }
    *events -= 1;
    *bytes -= i64::from(row.size);
    true
}
