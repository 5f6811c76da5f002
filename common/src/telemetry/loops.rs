//! Whether the background loops of a service live, and get on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The loops of a service; cheap to clone, all clones share them.
#[derive(Debug, Clone, Default)]
pub struct LoopStates(Arc<Mutex<BTreeMap<&'static str, LoopReport>>>);

/// What is known of one loop.
#[derive(Debug, Clone, Copy)]
enum LoopReport {
    /// It waits for something to do.
    Idle,
    /// It has been at one step since then.
    Busy(Instant),
    /// It is not there any more, although the service goes on.
    Ended,
}

/// One loop's own handle: it counts as ended when that is dropped, unless it said that it stops.
#[derive(Debug)]
pub struct LoopState {
    states: LoopStates,
    name: &'static str,
    stops: bool,
}

impl LoopStates {
    /// A loop begins.
    pub fn begin(&self, name: &'static str) -> LoopState {
        self.set(name, LoopReport::Idle);
        LoopState { states: self.clone(), name, stops: false }
    }

    /// Runs one step of the loop `name`, which counts as getting nowhere while it takes too long.
    pub async fn step<T>(&self, name: &'static str, step: impl Future<Output = T>) -> T {
        self.set(name, LoopReport::Busy(Instant::now()));
        let done = step.await;
        self.set(name, LoopReport::Idle);
        done
    }

    /// What is wrong: loops that ended, and those that are at one step for longer than `limit`.
    pub fn troubles(&self, limit: Duration) -> Vec<String> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = |(name, report): (&&'static str, &LoopReport)| match report {
            LoopReport::Ended => Some(format!("{name} has ended")),
            LoopReport::Busy(since) if since.elapsed() > limit => {
                Some(format!("{name} has got nowhere for {} s", since.elapsed().as_secs()))
            }
            LoopReport::Idle | LoopReport::Busy(_) => None,
        };
        states.iter().filter_map(trouble).collect()
    }

    /// How long the loop `name` has been at its step; zero while it waits.
    pub fn busy_for(&self, name: &str) -> Duration {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match states.get(name) {
            Some(LoopReport::Busy(since)) => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn set(&self, name: &'static str, report: LoopReport) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, report);
    }
}

impl LoopState {
    /// The service stops, and the loop with it.
    pub fn stop(mut self) {
        self.stops = true;
    }
}

impl Drop for LoopState {
    fn drop(&mut self) {
        let report = if self.stops { LoopReport::Idle } else { LoopReport::Ended };
        self.states.set(self.name, report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_ends_or_gets_nowhere_is_told() {
        let states = LoopStates::default();
        let (relay, settler) = (states.begin("relay"), states.begin("settler"));
        assert_eq!(states.troubles(Duration::ZERO), Vec::<String>::new());
        let stuck = states.step("relay", async {
            std::thread::sleep(Duration::from_millis(2));
            states.troubles(Duration::ZERO)
        });
        assert_eq!(stuck.await, ["relay has got nowhere for 0 s"]);
        assert_eq!(states.busy_for("relay"), Duration::ZERO);
        drop(relay);
        settler.stop();
        assert_eq!(states.troubles(Duration::ZERO), ["relay has ended"]);
    }
}
