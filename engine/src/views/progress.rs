//! Where this instance has left each partition: by that it notices a database that goes back under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock::Timestamp;

use super::ViewPosition;

/// How far a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// When it was begun to be read.
    pub(crate) begun: Timestamp,
    /// The offset behind the last message that was taken.
    pub(crate) next_offset: i64,
}

/// What this instance stored last, or found when it placed its consumer; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Whether a consumer was placed since this process started.
    placed: bool,
    reached: BTreeMap<i32, Reached>,
}

impl From<&ViewPosition> for Reached {
    fn from(position: &ViewPosition) -> Self {
        Self { begun: position.begun_us, next_offset: position.next_offset }
    }
}

impl Progress {
    /// Whether no consumer was placed yet.
    pub(super) fn is_new(&self) -> bool {
        !self.known().placed
    }

    /// Whether it is known where this partition was left.
    pub(super) fn has(&self, partition: i32) -> bool {
        self.known().reached.contains_key(&partition)
    }

    /// Whether the database is not where it was left, nor further: it went back, or the partition was begun anew.
    pub(super) fn is_ahead_of(&self, position: &ViewPosition) -> bool {
        let left = self.known().reached.get(&position.partition).copied();
        left.is_some_and(|left| {
            left.begun != position.begun_us || left.next_offset > position.next_offset
        })
    }

    /// Those of `partitions` in which the database, with these positions, is not where it was left, nor further.
    pub(super) fn lost(
        &self,
        partitions: &BTreeSet<i32>,
        positions: &[ViewPosition],
    ) -> BTreeSet<i32> {
        let is_lost = |partition: &&i32| {
            let found = positions.iter().find(|position| position.partition == **partition);
            found.map_or_else(|| self.has(**partition), |position| self.is_ahead_of(position))
        };
        partitions.iter().filter(is_lost).copied().collect()
    }

    /// The database has stored this.
    pub(super) fn stored(&self, reached: BTreeMap<i32, Reached>) {
        self.known().reached.extend(reached);
    }

    /// The consumer reads on from there.
    pub(super) fn placed(&self, reached: BTreeMap<i32, Reached>) {
        let mut known = self.known();
        known.placed = true;
        known.reached.extend(reached);
    }

    /// The partition is another instance's by now.
    pub(super) fn forget(&self, partition: i32) {
        self.known().reached.remove(&partition);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
