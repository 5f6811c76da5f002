//! Who may use a connection now, and who has to come again later: a queue without an end helps nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::DbError;

/// How many may wait for each connection: what stands further back would wait for longer than its client does.
const WAITING_PER_CONNECTION: usize = 16;

/// The door to a pool of connections.
pub(super) struct Gate {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    patience: Duration,
}

impl Gate {
    /// A gate to `connections` of them, each waited for no longer than `patience`.
    pub(super) fn new(connections: u32, patience: Duration) -> Self {
        let connections = usize::try_from(connections.max(1)).unwrap_or(1);
        Self {
            free: Arc::new(Semaphore::new(connections)),
            waiting: AtomicUsize::new(0),
            max_waiting: connections.saturating_mul(WAITING_PER_CONNECTION),
            patience,
        }
    }

    /// The right to one connection, until it is dropped.
    ///
    /// # Errors
    /// [`DbError::Busy`] when too many wait already, or none became free in time.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, DbError> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(permit);
        }
        let place = Place::take(&self.waiting);
        if place.number > self.max_waiting {
            return Err(DbError::Busy);
        }
        let free = Arc::clone(&self.free).acquire_owned();
        match tokio::time::timeout(self.patience, free).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(DbError::Closed),
            Err(_late) => Err(DbError::Busy),
        }
    }
}

/// A place in the queue; given up also where the one who waits goes away.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    number: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, number: waiting.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stands_too_far_back_is_sent_away_at_once() {
        let gate = Arc::new(Gate::new(1, Duration::from_secs(5)));
        let first = gate.enter().await.unwrap();
        let waiting: Vec<_> = (0..WAITING_PER_CONNECTION)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.enter().await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(matches!(gate.enter().await, Err(DbError::Busy)));
        drop(first);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        assert!(gate.enter().await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = Gate::new(1, Duration::from_millis(10));
        let _first = gate.enter().await.unwrap();
        assert!(matches!(gate.enter().await, Err(DbError::Busy)));
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
