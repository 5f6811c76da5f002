//! The time of a run: tokio's, which stands still as long as anything is left to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::clock::{Clock, Timestamp};
use tokio::time::Instant;

use crate::lock;

/// When each run begins.
const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A clock of a run. Clones go together; one may be ahead of another.
#[derive(Clone)]
pub(crate) struct RunClock {
    begun: Arc<Mutex<Instant>>,
    ahead: Duration,
}

impl RunClock {
    pub(crate) fn new() -> Self {
        Self { begun: Arc::new(Mutex::new(Instant::now())), ahead: Duration::ZERO }
    }

    /// A run begins now.
    pub(crate) fn begin(&self) {
        *lock(&self.begun) = Instant::now();
    }

    /// A machine's clock that is `ahead` of this one.
    pub(crate) fn ahead_by(&self, ahead: Duration) -> Self {
        Self { ahead, ..self.clone() }
    }
}

impl Clock for RunClock {
    fn now(&self) -> Timestamp {
        let passed = lock(&self.begun).elapsed();
        START.after(passed).after(self.ahead)
    }
}
