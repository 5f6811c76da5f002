//! Which partitions are not sent to for a while, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::retry::Backoff;
use tokio::time::Instant;

/// A partition that the broker did not take messages for.
struct Troubled {
    failures: u32,
    until: Instant,
    cause: String,
}

/// Partitions that the broker did not take messages for, and how long they are left alone.
#[derive(Default)]
pub(super) struct PartitionBackoff(Mutex<BTreeMap<i32, Troubled>>);

impl PartitionBackoff {
    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(250), max: Duration::from_secs(5) };

    /// Leaves `partition` alone for a while, longer each time.
    pub(super) fn begin(&self, partition: i32, cause: String, chance: f64) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = pauses.get(&partition).map_or(0, |troubled| troubled.failures) + 1;
        let until = Instant::now() + Self::BACKOFF.delay(failures, chance);
        pauses.insert(partition, Troubled { failures, until, cause });
    }

    /// The broker takes messages for `partition` again.
    pub(super) fn end(&self, partition: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// Forgets those of the `open` ones that nothing is `waiting` for.
    pub(super) fn forget_idle(&self, open: &BTreeMap<i32, (i64, i64)>, waiting: &BTreeSet<i32>) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.retain(|partition, _| !open.contains_key(partition) || waiting.contains(partition));
    }

    /// Whether the broker did not take messages for `partition` the last time.
    pub(super) fn is_troubled(&self, partition: i32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&partition)
    }

    /// Why the first of them is not sent to.
    pub(super) fn cause(&self) -> Option<String> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (partition, troubled) = pauses.first_key_value()?;
        Some(format!("partition {partition}: {}", troubled.cause))
    }

    /// Takes those out of `room` that are left alone now.
    pub(super) fn leave_out(&self, room: &mut BTreeMap<i32, (i64, i64)>) {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        room.retain(|partition, _| pauses.get(partition).is_none_or(|one| one.until <= now));
    }
}
