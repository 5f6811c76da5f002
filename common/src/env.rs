//! Time, randomness and ids, injected: time, ids and chance, injected so that tests can fix them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::ids::{EventId, Ids};

/// The sources of time, ids and chance; cheap to clone.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    chance: Arc<Mutex<StdRng>>,
}

impl Env {
    /// The machine's clock and randomness.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), StdRng::from_os_rng())
    }

    /// A chosen clock and a seed, for tests.
    pub fn seeded(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self::new(clock, StdRng::seed_from_u64(seed))
    }

    fn new(clock: Arc<dyn Clock>, chance: StdRng) -> Self {
        Self { clock, ids: Arc::new(Ids::default()), chance: Arc::new(Mutex::new(chance)) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new event id, made now.
    pub fn event_id(&self) -> EventId {
        self.ids.next(self.now())
    }

    /// A number from 0 (included) to 1 (not included).
    pub fn chance(&self) -> f64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Random bytes, fit for secrets: the generator is ChaCha12, seeded by the machine.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
