//! Group commit: what arrives while a group is on its way rides in the next one.
//!
//! Nobody waits for a timer: whoever comes to an idle lane goes at once, alone. (The idea: D. DeWitt et al.,
//! "Implementation techniques for main memory database systems", 1984.)

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

/// How many may ride together.
const GROUP: usize = 256;

/// How much those may weigh that ride together; one that alone weighs more rides alone.
const LOAD: usize = 10_000;

/// How many may wait in each lane.
const WAITING: usize = 1_024;

/// How many that were handed back may pause in each lane, besides those that wait.
const PAUSING: usize = 1_024;

/// How long one may wait, also where it is handed back again and again: by then its client is gone, or soon will be.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest and the longest pause of what is handed back.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(50);

/// Carries a group: it answers each rider, or hands it back.
type Carry<I, O> = dyn Fn(Lanes<I, O>, Vec<Rider<I, O>>) -> BoxFuture<'static, ()> + Send + Sync;

/// Lanes in which groups go one after the other, each lane beside the others; cheap to clone.
pub struct Lanes<I, O> {
    lanes: Arc<[Mutex<Lane<I, O>>]>,
    carry: Arc<Carry<I, O>>,
    runtime: Handle,
}

impl<I, O> Clone for Lanes<I, O> {
    fn clone(&self) -> Self {
        let (lanes, carry) = (Arc::clone(&self.lanes), Arc::clone(&self.carry));
        Self { lanes, carry, runtime: self.runtime.clone() }
    }
}

struct Lane<I, O> {
    waiting: VecDeque<Rider<I, O>>,
    pausing: usize,
    is_moving: bool,
}

impl<I, O> Default for Lane<I, O> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), pausing: 0, is_moving: false }
    }
}

impl<I, O> Lane<I, O> {
    /// The next one that waits, if it fits into a group of that size and load.
    fn pop_fitting(&mut self, size: usize, load: usize) -> Option<Rider<I, O>> {
        let weight = self.waiting.front()?.weight;
        let fits = size == 0 || (size < GROUP && load.saturating_add(weight) <= LOAD);
        if fits { self.waiting.pop_front() } else { None }
    }
}

/// Something that is carried, and who waits for what becomes of it.
#[derive(Debug)]
pub struct Rider<I, O> {
    /// What is carried.
    pub item: I,
    weight: usize,
    caller: oneshot::Sender<Result<O, NoRide>>,
    since: Instant,
    span: Span,
}

impl<I, O> Rider<I, O> {
    /// Tells the caller what became of it.
    pub fn answer(self, outcome: O) {
        self.end(Ok(outcome));
    }

    /// Where its log lines come from.
    pub fn span(&self) -> &Span {
        &self.span
    }

    fn end(self, outcome: Result<O, NoRide>) {
        // A caller that went away has nobody to be told.
        let _ = self.caller.send(outcome);
    }
}

/// Why something was not carried to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoRide {
    /// Too many wait or pause already. Nothing was done.
    #[error("too many wait already; try again shortly")]
    Full,
    /// It has waited for too long, for its turn or to be taken up again. Nothing was done.
    #[error("it waited for {} s, and nothing was done; try again shortly", PATIENCE.as_secs())]
    Late,
    /// Its group broke off, and whether it was done is not known.
    #[error("the work broke off, and whether it was done is not known; the log says why")]
    Broken,
}

impl<I: Send + 'static, O: Send + 'static> Lanes<I, O> {
    /// So many lanes, whose groups `carry` takes to their end, on the runtime that this is called on: groups outlive the
    /// thread that a request came in on.
    pub fn new<F>(
        lanes: usize,
        carry: impl Fn(Self, Vec<Rider<I, O>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lanes = (0..lanes.max(1)).map(|_| Mutex::default()).collect();
        let carry = Arc::new(move |lanes, group| carry(lanes, group).boxed());
        Self { lanes, carry, runtime: Handle::current() }
    }

    /// What becomes of `item`, which rides in the lane that belongs to `place`: items of one place go one after the other. The
    /// more it weighs, the fewer ride with it. Once its group has left, it goes on without a caller that goes away.
    ///
    /// # Errors
    /// When too many wait, it has waited for too long, or the group broke off.
    pub async fn ride(&self, place: usize, weight: usize, item: I) -> Result<O, NoRide> {
        let (caller, outcome) = oneshot::channel();
        let rider = Rider { item, weight, caller, since: Instant::now(), span: Span::current() };
        self.enqueue(place, rider);
        outcome.await.unwrap_or(Err(NoRide::Broken))
    }

    /// Takes a rider back that nothing was done for yet: it rides again after a pause, which grows with its wait. Where too
    /// many pause already, it ends.
    pub fn take_back(&self, place: usize, rider: Rider<I, O>) {
        let Some(mut lane) = self.lane(place) else { return };
        if lane.pausing >= PAUSING {
            drop(lane);
            return rider.end(Err(NoRide::Full));
        }
        lane.pausing += 1;
        let pause = rider.since.elapsed().clamp(*PAUSES.start(), *PAUSES.end());
        self.runtime.spawn(self.clone().come_back(place, rider, pause));
    }

    async fn come_back(self, place: usize, rider: Rider<I, O>, pause: Duration) {
        tokio::time::sleep(pause).await;
        if let Some(mut lane) = self.lane(place) {
            lane.pausing -= 1;
        }
        self.enqueue(place, rider);
    }

    fn enqueue(&self, place: usize, rider: Rider<I, O>) {
        let Some(mut lane) = self.lane(place) else { return };
        if lane.waiting.len() >= WAITING {
            drop(lane);
            return rider.end(Err(NoRide::Full));
        }
        lane.waiting.push_back(rider);
        if !std::mem::replace(&mut lane.is_moving, true) {
            self.runtime.spawn(self.clone().go(place));
        }
    }

    /// Carries group after group, until nobody waits.
    async fn go(self, place: usize) {
        while let Some(group) = self.next(place) {
            // What is logged of the group itself is among the lines of its first.
            let span = group.first().map_or_else(Span::none, |first| first.span.clone());
            // A task of its own: what panics in it takes nobody along who comes later.
            let _ = tokio::spawn((self.carry)(self.clone(), group).instrument(span)).await;
        }
    }

    fn next(&self, place: usize) -> Option<Vec<Rider<I, O>>> {
        let mut lane = self.lane(place)?;
        let (mut group, mut load) = (Vec::new(), 0_usize);
        while let Some(rider) = lane.pop_fitting(group.len(), load) {
            // Nobody waits any more, and nothing was done.
            if rider.caller.is_closed() {
                continue;
            }
            match rider.since.elapsed() > PATIENCE {
                true => rider.end(Err(NoRide::Late)),
                false => {
                    load = load.saturating_add(rider.weight);
                    group.push(rider);
                }
            }
        }
        lane.is_moving = !group.is_empty();
        lane.is_moving.then_some(group)
    }

    fn lane(&self, place: usize) -> Option<MutexGuard<'_, Lane<I, O>>> {
        let number = place % self.lanes.len();
        Some(self.lanes.get(number)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Lanes whose groups wait for the gate, and say how large each was.
    fn gated(lanes: usize) -> (Lanes<u32, usize>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let carry = move |_, group: Vec<Rider<u32, usize>>| {
            let opened = Arc::clone(&opened);
            async move {
                opened.acquire().await.unwrap().forget();
                let size = group.len();
                for rider in group {
                    assert_ne!(rider.item, u32::MAX, "a flaw");
                    rider.answer(size);
                }
            }
        };
        (Lanes::new(lanes, carry), gate)
    }

    type Outcome = oneshot::Receiver<Result<usize, NoRide>>;

    /// One that came at this moment, and what becomes of it.
    fn rider(item: u32, since: Instant) -> (Rider<u32, usize>, Outcome) {
        let (caller, outcome) = oneshot::channel();
        (Rider { item, weight: 1, caller, since, span: Span::none() }, outcome)
    }

    type Ride = tokio::task::JoinHandle<Result<usize, NoRide>>;

    /// Lets `item` get in line.
    async fn rides(lanes: &Lanes<u32, usize>, item: u32) -> Ride {
        rides_with(lanes, 1, item).await
    }

    async fn rides_with(lanes: &Lanes<u32, usize>, weight: usize, item: u32) -> Ride {
        let lanes = lanes.clone();
        let task = tokio::spawn(async move { lanes.ride(0, weight, item).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn what_comes_meanwhile_rides_in_the_next_group() {
        let (lanes, gate) = gated(1);
        let first = rides(&lanes, 1).await;
        // It has left before the others come.
        tokio::task::yield_now().await;
        let others = [rides(&lanes, 2).await, rides(&lanes, 3).await];
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(2));
        }
        gate.add_permits(1);
        assert_eq!(lanes.ride(0, 1, 4).await, Ok(1), "an idle lane moves again");
    }

    #[tokio::test]
    async fn no_more_ride_together_than_may_weigh_so_much() {
        let (lanes, gate) = gated(1);
        let first = rides(&lanes, 0).await;
        tokio::task::yield_now().await;
        let mut others = Vec::new();
        for weight in [LOAD / 2, LOAD / 2, 1, LOAD + 1, LOAD - 1, 1, usize::MAX] {
            others.push(rides_with(&lanes, weight, 1).await);
        }
        gate.add_permits(6);
        assert_eq!(first.await.unwrap(), Ok(1));
        let mut sizes = Vec::new();
        for other in others {
            sizes.push(other.await.unwrap().unwrap());
        }
        assert_eq!(sizes, [2, 2, 1, 1, 2, 2, 1]);
    }

    #[tokio::test]
    async fn a_flaw_takes_only_its_own_group_along() {
        let (lanes, gate) = gated(1);
        gate.add_permits(2);
        assert_eq!(lanes.ride(0, 1, u32::MAX).await, Err(NoRide::Broken));
        assert_eq!(lanes.ride(0, 1, 1).await, Ok(1));
    }

    #[tokio::test]
    async fn who_went_away_before_the_group_left_is_not_carried() {
        let (lanes, gate) = gated(1);
        let first = rides(&lanes, 1).await;
        tokio::task::yield_now().await;
        let gone = rides(&lanes, u32::MAX).await;
        let last = rides(&lanes, 3).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(last.await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn who_has_waited_for_too_long_is_told_that_nothing_was_done() {
        let (lanes, gate) = gated(1);
        let since = Instant::now().checked_sub(PATIENCE + Duration::from_millis(1)).unwrap();
        let late = || rider(u32::MAX, since);
        let ((waiting, one), (handed_back, other)) = (late(), late());
        lanes.enqueue(0, waiting);
        lanes.take_back(0, handed_back);
        assert_eq!(one.await.unwrap(), Err(NoRide::Late));
        assert_eq!(other.await.unwrap(), Err(NoRide::Late));
        gate.add_permits(1);
        assert_eq!(lanes.ride(0, 1, 1).await, Ok(1), "an idle lane moves again");
    }

    #[tokio::test]
    async fn no_more_wait_than_have_a_place() {
        let (lanes, gate) = gated(1);
        let first = rides(&lanes, 0).await;
        tokio::task::yield_now().await;
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            waiting.push(rides(&lanes, 1).await);
        }
        assert_eq!(lanes.ride(0, 1, 2).await, Err(NoRide::Full));
        gate.add_permits(1 + WAITING / GROUP);
        assert_eq!(first.await.unwrap(), Ok(1));
        for one in waiting {
            assert_eq!(one.await.unwrap(), Ok(GROUP));
        }
    }

    #[tokio::test]
    async fn no_more_pause_than_have_a_place() {
        let (lanes, gate) = gated(1);
        let hand_back = || {
            let (rider, outcome) = rider(1, Instant::now());
            lanes.take_back(0, rider);
            outcome
        };
        let pausing: Vec<_> = (0..PAUSING).map(|_| hand_back()).collect();
        assert_eq!(hand_back().await.unwrap(), Err(NoRide::Full));
        gate.add_permits(PAUSING + 1);
        for one in pausing {
            assert!(one.await.unwrap().is_ok());
        }
        assert_eq!(hand_back().await.unwrap(), Ok(1), "whoever comes back makes room");
    }
}
