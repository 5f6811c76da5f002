//! When something happens to a system, drawn from a seed, so that the same seed makes the same plan.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fault::{Fault, Who};
use super::scenarios::Scenario;
use crate::check::Side;

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Since the load began, without what the faults before took by themselves, such as a start.
    pub(super) at: Duration,
    pub(super) fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s  {}", self.at.as_secs_f64(), self.fault)
    }
}

/// All that happens to a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// In order.
    pub(super) steps: Vec<Step>,
    /// How long clients ask for changes: until the last fault is over, too.
    pub(super) length: Duration,
}

impl Plan {
    /// What `scenario` does within `time`; a fault that lasts longer than that ends after it.
    pub(super) fn draw(scenario: &Scenario, seed: u64, time: Duration) -> Self {
        let mut draw = Draw {
            random: StdRng::seed_from_u64(seed),
            span_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            instances: scenario.instances,
            brokers: scenario.cluster.brokers(),
            calm_ms: 0,
            steps: Vec::new(),
        };
        (scenario.draw)(&mut draw);
        let (mut steps, calm) = (draw.steps, Duration::from_millis(draw.calm_ms));
        // A stable sort: what was drawn first happens first.
        steps.sort_by_key(|step| step.at);
        let last = steps.last().map_or(Duration::ZERO, |step| step.at);
        Self { steps, length: time.max(last + calm) }
    }
}

/// Draws the steps of a plan.
pub(super) struct Draw {
    random: StdRng,
    span_ms: u64,
    /// Processes of each service that run at first.
    instances: usize,
    brokers: usize,
    calm_ms: u64,
    steps: Vec<Step>,
}

/// When a fault begins and when it ends, in ms.
pub(super) type Episode = (u64, u64);

/// Nothing happens before the load is there.
const FIRST_MS: RangeInclusive<u64> = 200..=1_000;

impl Draw {
    /// Something happens at this moment, in ms.
    pub(super) fn at(&mut self, at_ms: u64, fault: Fault) {
        self.steps.push(Step { at: Duration::from_millis(at_ms), fault });
    }

    /// Clients go on so long after the last step, as only then its consequences are seen.
    pub(super) fn calm(&mut self, ms: u64) {
        self.calm_ms = ms;
    }

    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.random.random_range(range)
    }

    /// The time, in so many parts, in ms.
    pub(super) const fn part(&self, parts: u64) -> u64 {
        self.span_ms / parts
    }

    /// `first`, or one of the others: each as likely.
    pub(super) fn pick<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let drawn = self.random.random_range(0..=others.len());
        others.get(drawn).copied().unwrap_or(first)
    }

    pub(super) fn side(&mut self) -> Side {
        self.pick(Side::Product, &[Side::Order])
    }

    /// A process of this service that runs at first.
    pub(super) fn instance(&mut self, side: Side) -> Who {
        Who { side, number: self.random.random_range(1..=self.instances) }
    }

    /// The numbers of all brokers, over and over, from any of them on.
    pub(super) fn brokers(&mut self) -> impl Iterator<Item = usize> + use<> {
        let (brokers, first) = (self.brokers, self.random.random_range(0..self.brokers));
        (0..brokers).map(move |number| 1 + (first + number) % brokers).cycle()
    }

    /// One after the other until the time is over, and one at the least: each lasts so long, and then there is a pause.
    pub(super) fn episodes(
        &mut self,
        lasts_ms: RangeInclusive<u64>,
        pause_ms: RangeInclusive<u64>,
    ) -> Vec<Episode> {
        let mut episodes = Vec::new();
        let mut from = self.within(FIRST_MS);
        while episodes.is_empty() || from < self.span_ms {
            let to = from + self.within(lasts_ms.clone());
            episodes.push((from, to));
            from = to + self.within(pause_ms.clone());
        }
        episodes
    }

    /// The same, each with the service that it meets: in turn, so that a few meet both.
    pub(super) fn episodes_of_sides(
        &mut self,
        lasts_ms: RangeInclusive<u64>,
        pause_ms: RangeInclusive<u64>,
    ) -> Vec<(Side, Episode)> {
        let first = self.side();
        [first, first.other()].into_iter().cycle().zip(self.episodes(lasts_ms, pause_ms)).collect()
    }
}
