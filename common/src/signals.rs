//! A word within the process that something about a key was committed, for whoever waits for it.
//!
//! It only saves waiting: what happens in other instances is never told here, so a waiter also looks by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Who waits for which key; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Signals(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<String, Vec<Arc<Notify>>>,
    count: usize,
    /// Keys that somebody waits for and that were touched in transactions which may not be committed yet.
    touched: BTreeSet<String>,
}

/// A place among those who wait; given back when it is dropped.
#[derive(Debug)]
pub struct Waiter {
    signals: Signals,
    key: String,
    notify: Arc<Notify>,
}

impl Signals {
    /// Waits for `key` from now on, unless `limit` wait already.
    pub fn wait_for(&self, key: &str, limit: usize) -> Option<Waiter> {
        let mut inner = self.lock();
        if inner.count >= limit {
            return None;
        }
        inner.count += 1;
        let notify = Arc::new(Notify::new());
        inner.waiting.entry(key.to_owned()).or_default().push(Arc::clone(&notify));
        Some(Waiter { signals: self.clone(), key: key.to_owned(), notify })
    }

    /// Notes, inside a transaction, that something about `key` changes.
    pub fn touch(&self, key: &str) {
        let mut inner = self.lock();
        if inner.waiting.contains_key(key) {
            inner.touched.insert(key.to_owned());
        }
    }

    /// Wakes whoever waits for what was touched: after a commit.
    pub fn publish(&self) {
        let mut inner = self.lock();
        for key in std::mem::take(&mut inner.touched) {
            // A permit is kept for one who is not waiting at this very moment.
            inner.waiting.get(&key).into_iter().flatten().for_each(|notify| notify.notify_one());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Ends when something about the key was committed in this process since the last time.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut inner = self.signals.lock();
        inner.count = inner.count.saturating_sub(1);
        if let Some(waiting) = inner.waiting.get_mut(&self.key) {
            waiting.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
            if waiting.is_empty() {
                inner.waiting.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_who_waits_for_the_key_and_nobody_else() {
        let signals = Signals::default();
        let (Some(a), Some(b)) = (signals.wait_for("a", 2), signals.wait_for("b", 2)) else {
            return assert!(signals.0.lock().is_err(), "there is room for two");
        };
        assert!(signals.wait_for("c", 2).is_none());
        signals.touch("a");
        signals.touch("c");
        signals.publish();
        a.changed().await;
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), b.changed());
        assert!(nothing.await.is_err());
        drop((a, b));
        assert!(signals.lock().waiting.is_empty());
        assert!(signals.wait_for("c", 1).is_some());
    }
}
