//! Times at which no client asks for anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use stockloop_tests::poll::eventually_blocking;
use tokio::time::sleep;

/// How long clients may take to finish what they have begun, while all is well.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often a client that rests looks whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// Whether clients rest: each finishes what it has begun, and begins nothing more.
#[derive(Debug, Clone, Default)]
pub(in crate::chaos) struct Rest(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_on: AtomicBool,
    /// Clients that are at something.
    busy: AtomicUsize,
}

/// A client is at something until this value is dropped.
pub(super) struct Busy(Arc<State>);

impl Rest {
    /// Lets all clients rest, and waits until they do.
    pub(in crate::chaos) fn begin(&self) -> Result<()> {
        self.0.is_on.store(true, Ordering::SeqCst);
        eventually_blocking("clients that rest", DEADLINE, || {
            match self.0.busy.load(Ordering::SeqCst) {
                0 => Ok(()),
                busy => Err(busy),
            }
        })
    }

    /// Lets them go on.
    pub(in crate::chaos) fn end(&self) {
        self.0.is_on.store(false, Ordering::SeqCst);
    }

    /// Waits until a client may begin something.
    pub(super) async fn over(&self) -> Busy {
        loop {
            let busy = Busy::new(Arc::clone(&self.0));
            // Asked after: whoever lets clients rest waits for this one, or is seen by it.
            if !self.0.is_on.load(Ordering::SeqCst) {
                return busy;
            }
            drop(busy);
            sleep(LOOK).await;
        }
    }
}

impl Busy {
    fn new(state: Arc<State>) -> Self {
        state.busy.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::thread;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_lets_clients_rest_waits_for_those_that_are_busy() {
        let rest = Rest::default();
        let busy = rest.over().await;
        let begun = thread::spawn({
            let rest = rest.clone();
            move || rest.begin()
        });
        while !rest.0.is_on.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let begun_more = timeout(Duration::ZERO, rest.over()).await;
        assert!(begun_more.is_err(), "nothing more is begun");
        assert!(!begun.is_finished(), "one is still busy");
        drop(busy);
        begun.join().unwrap().unwrap();
        rest.end();
        assert!(timeout(Duration::ZERO, rest.over()).await.is_ok());
    }
}
