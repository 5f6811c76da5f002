//! When the relay is to be woken for what waits for another attempt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use tokio::sync::Notify;

/// The next moment at which the relay is woken; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm(Arc<Mutex<Option<Timestamp>>>);

impl Alarm {
    /// Sets it to `due`; returns how long the caller has to wait with waking the relay. None, if it rings before that anyway:
    /// only the next moment has an alarm, so that there are few, and what is due between is found by the sweep.
    pub(super) fn set(&self, now: Timestamp, due: Timestamp) -> Option<Duration> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|next| now < next && next <= due) {
            return None;
        }
        *next = Some(due);
        Some(due.since(now))
    }
}

/// Notifies `woken` once `pause` is over.
pub(super) fn notify_in(woken: &Arc<Notify>, pause: Duration) {
    let woken = Arc::clone(woken);
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        woken.notify_one();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_for_the_next_moment_alone() {
        let alarm = Alarm::default();
        let at = |ms: i64| Timestamp::from_micros(ms * 1_000);
        let set = |now, due| alarm.set(at(now), at(due)).map(|wait| wait.as_millis());
        assert_eq!(set(0, 200), Some(200));
        assert_eq!(set(10, 200), None, "it rings then");
        assert_eq!(set(10, 300), None, "it rings before");
        assert_eq!(set(10, 150), Some(140), "that is sooner");
        assert_eq!(set(20, 200), None);
        assert_eq!(set(150, 300), Some(150), "it has rung");
        assert_eq!(set(400, 390), Some(0), "it is due already");
    }
}
