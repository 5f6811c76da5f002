//! How much may be sent and unanswered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use common::db::{Db, DbError};

use super::store;

/// What a partition may hold unanswered, and what it does hold; shared by relay and settler.
#[derive(Debug, Clone)]
pub struct InFlight {
    max_events: i64,
    max_bytes: i64,
    held: Arc<Mutex<BTreeMap<i32, (i64, i64)>>>,
}

impl InFlight {
    /// Nothing in flight; at most `max_events` and `max_bytes` per partition.
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            max_events: i64::try_from(max_events).unwrap_or(i64::MAX),
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            held: Arc::default(),
        }
    }

    /// Takes over what the database says: other instances send and settle too.
    ///
    /// # Errors
    /// When the database fails; the old numbers stay.
    pub async fn refresh(&self, db: &Db) -> Result<(), DbError> {
        let rows = db.read(|conn| store::in_flight(conn).map_err(DbError::from)).await?;
        let held = rows.into_iter().map(|(p, events, bytes)| (p, (events, bytes))).collect();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// Notes that events left the state SENT: by partition, events and bytes.
    pub fn remove(&self, released: &BTreeMap<i32, (i64, i64)>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, (events, bytes)) in released {
            let entry = held.entry(*partition).or_default();
            entry.0 = (entry.0 - events).max(0);
            entry.1 = (entry.1 - bytes).max(0);
        }
    }

    pub(super) fn add(&self, partition: i32, bytes: i64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = held.entry(partition).or_default();
        entry.0 += 1;
        entry.1 += bytes;
    }

    /// What every partition has room for now.
    pub(super) fn room(&self, partitions: i32) -> BTreeMap<i32, (i64, i64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let room = |partition| {
            let (events, bytes) = held.get(&partition).copied().unwrap_or_default();
            (partition, (self.max_events - events, self.max_bytes - bytes))
        };
        (0..partitions).map(room).filter(|(_, (events, bytes))| *events > 0 && *bytes > 0).collect()
    }
}
