//! The way of one process to its database: how long it takes, and when it breaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::db::{DbError, Fault, Line};
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use crate::lock;

/// What is said of a way that the script breaks.
pub(crate) const BROKE: &str = "the script broke the way";

/// Turns of others that one way takes at the most.
const TURNS: u32 = 2;

/// The way of one process to its database and back: others have their turns meanwhile, as many as the seed says.
pub(crate) struct Way(Mutex<State>);

struct State {
    chance: StdRng,
    /// How many of the next ways break.
    breaks: u32,
    /// Until when the process stands still.
    stands_until: Instant,
}

impl Way {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let chance = StdRng::seed_from_u64(seed);
        Arc::new(Self(Mutex::new(State { chance, breaks: 0, stands_until: Instant::now() })))
    }

    /// Breaks on the next `ways`.
    pub(crate) fn break_on(&self, ways: u32) {
        lock(&self.0).breaks = ways;
    }

    /// The process stands still for `pause`, wherever it is.
    pub(crate) fn stand_still(&self, pause: Duration) {
        lock(&self.0).stands_until = Instant::now() + pause;
    }

    /// Nothing goes wrong on it from now on.
    pub(crate) fn heal(&self) {
        let mut state = lock(&self.0);
        (state.breaks, state.stands_until) = (0, Instant::now());
    }

    /// What the next way is like: until when it is stopped, how many turns it takes, and whether it breaks.
    fn next(&self) -> (Instant, u32, bool) {
        let mut state = lock(&self.0);
        let turns = state.chance.random_range(0..=TURNS);
        let breaks = state.breaks > 0;
        state.breaks = state.breaks.saturating_sub(1);
        (state.stands_until, turns, breaks)
    }
}

impl Line for Way {
    fn pass(&self) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(async move {
            let (stands_until, turns, breaks) = self.next();
            if stands_until > Instant::now() {
                sleep_until(stands_until).await;
            }
            for _ in 0..turns {
                yield_now().await;
            }
            match breaks {
                true => Err(DbError::NotKnown { fault: Fault::World, reason: BROKE.to_owned() }),
                false => Ok(()),
            }
        })
    }
}
