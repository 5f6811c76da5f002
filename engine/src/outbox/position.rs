//! Where a relay reads on: what lies before a shard's position needs no second look.
//!
//! Commit order is not id order, so "after the last id that was seen" would miss an event whose transaction commits
//! late. Events carry the number of their transaction instead, and a snapshot of the database says which transaction is
//! the oldest one that still runs, the *horizon*: all before that is complete, and nothing can appear there any more. So
//! a step walks over nothing that was dealt with before: neither dead rows that an old snapshot keeps nor events of
//! paused keys.
//!
//! A server that crashed, or that took another one's place, may give numbers out again: of transactions that were undone, or
//! that it never got. So positions hold as long as the server does by which they were read, and as the connections to it:
//! a crash from which a server recovers by itself ends these, but does not count as a start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::ids::EventId;
use tokio::time::Instant;

use super::lease::LeaseSet;
use super::store::DueRow;

/// A place in a shard: behind all events that are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The transaction of the last of them.
    pub(super) tx: i64,
    /// Its id.
    pub(super) id: EventId,
}

impl Position {
    /// Before everything.
    pub(super) const BEGINNING: Self = Self { tx: 0, id: EventId::NIL };
}

/// After how long all shards are read from the beginning once more, should a server have crashed behind a pooler, whose
/// connections hold, and its numbers have passed by what the last read saw.
const TRUSTED_FOR: Duration = Duration::from_secs(600);

/// How far each shard is, while it is held without a break.
#[derive(Default)]
pub(super) struct Positions(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When all began anew.
    since: Option<Instant>,
    /// Which keys were left out: when that changes, all begin anew.
    paused: Vec<String>,
    /// What the last read saw of the database.
    sight: Sight,
    /// Counts how often all began anew.
    generation: u64,
    /// By shard: the lease's token, and the position.
    shards: BTreeMap<i16, (i64, Position)>,
}

/// What a read sees of its database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// All before it is complete.
    pub(super) horizon: i64,
    /// When its server was started.
    pub(super) started: i64,
    /// Connections that were made so far, with that of the read.
    pub(super) connections: u64,
}

impl Sight {
    /// Whether this may be another database than the one `before`, or its next life.
    fn is_of_another(self, before: Self) -> bool {
        let life = |sight: Self| (sight.started, sight.connections);
        life(self) != life(before) || self.horizon < before.horizon
    }
}

impl Positions {
    /// The positions of `shards`, for a read that sees all before its horizon and leaves the `paused` keys out; and what
    /// [`Positions::advance`] is to be told of it.
    pub(super) fn read(
        &self,
        held: &LeaseSet,
        shards: &[i16],
        paused: &[String],
        sight: Sight,
    ) -> (u64, Vec<Position>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = known.since.is_none_or(|since| since.elapsed() > TRUSTED_FOR);
        if is_old || known.paused != paused || sight.is_of_another(known.sight) {
            let generation = known.generation + 1;
            let (since, paused) = (Some(Instant::now()), paused.to_vec());
            *known = Known { since, paused, sight, generation, shards: BTreeMap::new() };
        }
        known.sight = sight;
        // What another instance may have left behind is looked for from the beginning.
        known.shards.retain(|shard, (token, _)| held.tokens.get(shard) == Some(token));
        let position = |shard| known.shards.get(shard).map_or(Position::BEGINNING, |(_, at)| *at);
        (known.generation, shards.iter().map(position).collect())
    }

    /// For a read that leaves out what was never sent: each of `shards` from its beginning, and none moves by it.
    pub(super) fn none(shards: &[i16]) -> (u64, Vec<Position>) {
        (u64::MAX, vec![Position::BEGINNING; shards.len()])
    }

    /// Moves `shard` to `position`: all before it is dealt with, as a read of this generation found it.
    pub(super) fn advance(&self, generation: u64, held: &LeaseSet, shard: i16, position: Position) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = held.tokens.get(&shard) else { return };
        if known.generation == generation {
            let (_, at) = known.shards.entry(shard).or_insert((*token, position));
            *at = position.max(*at);
        }
    }
}

/// What is known of one read, for whoever deals with its rows.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadState {
    /// Of the positions.
    pub(super) generation: u64,
    /// Of the database.
    pub(super) horizon: i64,
    /// The shards of which nothing is left out, up to the horizon.
    pub(super) whole: BTreeSet<i16>,
}

impl ReadState {
    /// Where a shard is that was read to its end: before the horizon, there is and will be nothing more.
    pub(super) fn end(&self) -> Position {
        Position { tx: self.horizon - 1, id: EventId::MAX }
    }

    /// How far `shard` is by now: behind those of its `rows` that are `done`, up to the first that is not.
    pub(super) fn reached<'a>(
        &self,
        shard: i16,
        rows: impl Iterator<Item = &'a DueRow>,
        done: impl Fn(&DueRow) -> bool,
    ) -> Option<Position> {
        let mut reached = None;
        let mut rows: Vec<&DueRow> =
            rows.filter(|row| row.shard == shard && row.attempt == 0).collect();
        rows.sort_unstable_by_key(|row| (row.tx, row.id));
        for row in rows {
            if row.tx >= self.horizon {
                // Behind the horizon, another transaction may still commit an event with a smaller place.
                return Some(self.end());
            }
            if !done(row) {
                return reached;
            }
            reached = Some(Position { tx: row.tx, id: row.id });
        }
        if self.whole.contains(&shard) { Some(self.end()) } else { reached }
    }
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::*;

    fn row(shard: i16, tx: i64, id: u128) -> DueRow {
        DueRow {
            id: EventId::from_uuid(uuid::Uuid::from_u128(id)),
            shard,
            attempt: 0,
            size: 2,
            tx,
            event_type: "test.changed".to_owned(),
            key: "A".to_owned(),
            epoch: 1,
            version: 1,
            payload: "{}".to_owned(),
            traceparent: None,
            created_us: Timestamp::default(),
        }
    }

    fn held(shards: &[(i16, i64)]) -> LeaseSet {
        LeaseSet { tokens: shards.iter().copied().collect(), ..LeaseSet::nothing("me".to_owned()) }
    }

    fn at(tx: i64, id: u128) -> Position {
        Position { tx, id: EventId::from_uuid(uuid::Uuid::from_u128(id)) }
    }

    fn state(horizon: i64, whole: &[i16]) -> ReadState {
        ReadState { generation: 1, horizon, whole: whole.iter().copied().collect() }
    }

    const BEGINNING: Position = Position::BEGINNING;

    fn sight(horizon: i64) -> Sight {
        Sight { horizon, started: 1, connections: 3 }
    }

    #[test]
    fn nothing_is_passed_by_that_may_still_come() {
        // Transaction 12 still runs: an event of it, and of 13, may lie before what is there of 14.
        let rows = [row(1, 10, 5), row(2, 11, 1), row(1, 11, 2), row(1, 14, 3)];
        let read = state(12, &[1, 2]);
        for shard in [1, 2] {
            assert_eq!(read.reached(shard, rows.iter(), |_| true), Some(read.end()));
        }
        assert!(read.end() < at(12, 0) && read.end() > at(11, u128::MAX - 1));
        // The page was cut: more of transaction 11 may follow.
        let cut = state(12, &[]);
        assert_eq!(cut.reached(2, rows.iter(), |_| true), Some(at(11, 1)));
        assert_eq!(cut.reached(1, rows.iter().rev(), |row| row.tx != 11), Some(at(10, 5)));
    }

    #[test]
    fn what_was_not_sent_is_read_again() {
        let rows = [row(1, 10, 1), row(1, 10, 2), row(1, 10, 3)];
        let read = state(99, &[1]);
        assert_eq!(read.reached(1, rows.iter(), |row| row.id != rows[1].id), Some(at(10, 1)));
        assert_eq!(read.reached(1, rows.iter(), |row| row.id != rows[0].id), None);
    }

    #[test]
    fn all_begins_anew_with_other_pauses_leases_or_databases() {
        let (positions, mine, paused) = (Positions::default(), held(&[(1, 7)]), ["A".to_owned()]);
        let (before, read) = positions.read(&mine, &[1], &paused, sight(20));
        assert_eq!(read, [BEGINNING]);
        positions.advance(before, &mine, 1, at(10, 1));
        assert_eq!(positions.read(&mine, &[1], &paused, sight(20)).1, [at(10, 1)]);
        assert_eq!(positions.read(&mine, &[1], &[], sight(20)).1, [BEGINNING], "other pauses");
        // A send that was read before that knows nothing of what was left out.
        positions.advance(before, &mine, 1, at(10, 2));
        let (now, read) = positions.read(&mine, &[1], &[], sight(20));
        assert_eq!(read, [BEGINNING]);
        positions.advance(now, &mine, 1, at(10, 2));
        assert_eq!(positions.read(&mine, &[1], &[], sight(20)).1, [at(10, 2)]);
        assert_eq!(positions.read(&mine, &[1], &[], sight(19)).1, [BEGINNING], "put back");
        let (now, _) = positions.read(&mine, &[1], &[], sight(19));
        positions.advance(now, &mine, 1, at(10, 2));
        let other = held(&[(1, 8)]);
        assert_eq!(positions.read(&other, &[1], &[], sight(20)).1, [BEGINNING], "another lease");
        let (now, _) = positions.read(&other, &[1], &[], sight(20));
        positions.advance(now, &other, 1, at(10, 2));
        let anew = Sight { connections: 4, ..sight(30) };
        let (now, read) = positions.read(&other, &[1], &[], anew);
        assert_eq!(read, [BEGINNING], "connected anew");
        positions.advance(now, &other, 1, at(10, 2));
        assert_eq!(positions.read(&other, &[1], &[], anew).1, [at(10, 2)]);
        let elsewhere = Sight { started: 2, ..anew };
        assert_eq!(positions.read(&other, &[1], &[], elsewhere).1, [BEGINNING], "another server");
    }
}
