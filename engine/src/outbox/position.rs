//! Where a relay reads on: what lies before a shard's position needs no second look.
//!
//! Commit order is not id order, so "after the last id that was seen" would miss an event whose transaction commits
//! late. Events carry the number of their transaction instead, and a snapshot of the database says which transaction is
//! the oldest one that still runs: all before that is complete, and nothing can appear there any more. So a step walks
//! over nothing that was sent before, neither SENT events nor dead rows that an old snapshot keeps.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::ids::EventId;

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

/// After how long all shards are read from the beginning once more, should a database have been put back under a running
/// instance: the numbers of its transactions went back, too.
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
    /// Counts how often all began anew.
    generation: u64,
    /// By shard: the lease's token, and the position.
    shards: BTreeMap<i16, (i64, Position)>,
}

impl Positions {
    /// The positions of `shards`, for a read that leaves the `paused` keys out; and what [`Positions::advance`] is to be
    /// told of it.
    pub(super) fn read(
        &self,
        held: &LeaseSet,
        shards: &[i16],
        paused: &[String],
    ) -> (u64, Vec<Position>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = known.since.is_none_or(|since| since.elapsed() > TRUSTED_FOR);
        if is_old || known.paused != paused {
            let generation = known.generation + 1;
            let (since, paused) = (Some(Instant::now()), paused.to_vec());
            *known = Known { since, paused, generation, shards: BTreeMap::new() };
        }
        // What another instance may have left behind is looked for from the beginning.
        known.shards.retain(|shard, (token, _)| held.tokens.get(shard) == Some(token));
        let position = |shard| known.shards.get(shard).map_or(Position::BEGINNING, |(_, at)| *at);
        (known.generation, shards.iter().map(position).collect())
    }

    /// Moves behind those `rows` (of one read, in its order) that are `done`, shard by shard, up to the first that is not.
    pub(super) fn advance(
        &self,
        generation: u64,
        held: &LeaseSet,
        rows: &[DueRow],
        done: impl Fn(&DueRow) -> bool,
    ) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation != generation {
            return;
        }
        let mut stopped = Vec::new();
        for row in rows.iter().filter(|row| row.attempt == 0) {
            let Some(token) = held.tokens.get(&row.shard) else { continue };
            if stopped.contains(&row.shard) {
                continue;
            }
            // Behind the horizon, another transaction may still commit an event with a smaller place.
            let is_final = row.tx < row.horizon;
            if !(is_final && done(row)) {
                stopped.push(row.shard);
                continue;
            }
            let behind = Position { tx: row.tx, id: row.id };
            let (_, position) = known.shards.entry(row.shard).or_insert((*token, behind));
            *position = behind.max(*position);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::*;

    fn row(shard: i16, tx: i64, id: u128, horizon: i64) -> DueRow {
        DueRow {
            id: EventId::from_uuid(uuid::Uuid::from_u128(id)),
            shard,
            attempt: 0,
            size: 2,
            tx,
            horizon,
            event_type: "test.changed".to_owned(),
            key: "A".to_owned(),
            epoch: 1,
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

    const BEGINNING: Position = Position::BEGINNING;

    #[test]
    fn nothing_is_passed_by_that_may_still_come() {
        let (positions, mine) = (Positions::default(), held(&[(1, 7), (2, 7)]));
        let (generation, read) = positions.read(&mine, &[1, 2], &[]);
        assert_eq!(read, [BEGINNING; 2]);
        // Transaction 12 still runs: an event of it, and of 13, may lie before what is there of 14.
        let rows = [row(1, 10, 5, 12), row(2, 11, 1, 12), row(1, 11, 2, 12), row(1, 14, 3, 12)];
        positions.advance(generation, &mine, &rows, |_| true);
        assert_eq!(positions.read(&mine, &[1, 2], &[]).1, [at(11, 2), at(11, 1)]);
    }

    #[test]
    fn what_was_not_sent_is_read_again() {
        let (positions, mine) = (Positions::default(), held(&[(1, 7)]));
        let (generation, _) = positions.read(&mine, &[1], &[]);
        let rows = [row(1, 10, 1, 99), row(1, 10, 2, 99), row(1, 10, 3, 99)];
        positions.advance(generation, &mine, &rows, |row| row.id != rows[1].id);
        assert_eq!(positions.read(&mine, &[1], &[]).1, [at(10, 1)]);
    }

    #[test]
    fn all_begins_anew_where_other_keys_are_paused_or_the_lease_was_lost() {
        let (positions, mine) = (Positions::default(), held(&[(1, 7)]));
        let paused = ["A".to_owned()];
        let (before, _) = positions.read(&mine, &[1], &paused);
        positions.advance(before, &mine, &[row(1, 10, 1, 99)], |_| true);
        assert_eq!(positions.read(&mine, &[1], &paused).1, [at(10, 1)]);
        assert_eq!(positions.read(&mine, &[1], &[]).1, [BEGINNING]);
        // A send that was read before that knows nothing of what was left out.
        positions.advance(before, &mine, &[row(1, 10, 2, 99)], |_| true);
        let (now, read) = positions.read(&mine, &[1], &[]);
        assert_eq!(read, [BEGINNING]);
        positions.advance(now, &mine, &[row(1, 10, 2, 99)], |_| true);
        assert_eq!(positions.read(&held(&[(1, 8)]), &[1], &[]).1, [BEGINNING]);
    }
}
