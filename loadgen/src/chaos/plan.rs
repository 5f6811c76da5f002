//! What happens to a system, and when: drawn from a seed, so that the same seed makes the same plan.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stockloop_tests::smtp::Manner;

use super::proxy::{Strike, Weather};
use super::scenarios::Scenario;
use crate::check::Side;

/// One process of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) side: Side,
    /// From 1 on.
    pub(super) number: usize,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side, self.number)
    }
}

/// What a service stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Postgres,
    Kafka,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Kafka => "Kafka",
        })
    }
}

/// The network between all processes of a service and what they stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) side: Side,
    pub(super) part: Part,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} – {}", self.side, self.part)
    }
}

/// What happens at one moment: a fault, or the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Who),
    /// SIGTERM, and its end is waited for.
    Terminate(Who),
    Start(Who),
    /// SIGSTOP.
    Freeze(Who),
    /// SIGCONT.
    Thaw(Who),
    /// From now on the network is like this.
    Weather(Link, Weather),
    /// All connections that are open end like this.
    Strike(Link, Strike),
    /// The answers to so many of the next commits are lost, with their connections.
    LoseCommits(Link, u32),
    Postgres(PostgresFault),
    Broker(BrokerFault),
    /// How the mail server behaves from now on.
    Mail(Manner),
    /// order-service refuses what concerns so many of the products that are adjusted.
    Quarantine(u32),
    /// Each event that order-service takes in costs it a millisecond more.
    SlowConsumer,
    /// What nobody should send, on every topic.
    Nonsense,
    /// Answers that were sent already, and answers of strangers.
    ForgedAnswers,
    /// From now on each message is delivered one to five times.
    Duplicate,
}

/// What happens to the database server, which both services share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostgresFault {
    /// A fast shutdown: sessions are ended, transactions undone.
    Stop,
    Kill,
    Start,
    /// The sessions of both services are ended.
    EndSessions,
    /// No transaction may write.
    ReadOnly,
    Writable,
    /// Sessions are ended, and strangers take all connections.
    Full,
    /// The strangers leave.
    Room,
}

/// What happens to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerFault {
    Stop,
    Kill,
    Start,
    Freeze,
    Thaw,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "{who} is killed"),
            Self::Terminate(who) => write!(f, "{who} is told to end"),
            Self::Start(who) => write!(f, "{who} is started"),
            Self::Freeze(who) => write!(f, "{who} is frozen"),
            Self::Thaw(who) => write!(f, "{who} goes on"),
            Self::Weather(link, weather) => write!(f, "{link}: {weather}"),
            Self::Strike(link, strike) => write!(f, "{link}: {strike}"),
            Self::LoseCommits(link, count) => {
                write!(f, "{link}: the answers to {count} commits are lost")
            }
            Self::Postgres(fault) => write!(f, "{fault}"),
            Self::Broker(fault) => write!(f, "{fault}"),
            Self::Mail(manner) => write!(f, "the mail server is {manner:?}"),
            Self::Quarantine(products) => {
                write!(f, "order-service refuses what concerns {products} products")
            }
            Self::SlowConsumer => f.write_str("order-service takes 1 ms longer for each event"),
            Self::Nonsense => f.write_str("what nobody should send is on every topic"),
            Self::ForgedAnswers => f.write_str("answers come again, and answers of strangers"),
            Self::Duplicate => f.write_str("each message comes one to five times from now on"),
        }
    }
}

impl fmt::Display for PostgresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "PostgreSQL shuts down",
            Self::Kill => "PostgreSQL is killed",
            Self::Start => "PostgreSQL is started",
            Self::EndSessions => "PostgreSQL ends all sessions",
            Self::ReadOnly => "PostgreSQL lets nobody write",
            Self::Writable => "PostgreSQL lets everybody write",
            Self::Full => "PostgreSQL ends all sessions and has no connection left",
            Self::Room => "PostgreSQL has connections again",
        })
    }
}

impl fmt::Display for BrokerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "the broker shuts down",
            Self::Kill => "the broker is killed",
            Self::Start => "the broker is started",
            Self::Freeze => "the broker is frozen",
            Self::Thaw => "the broker goes on",
        })
    }
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Since the load began.
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
            steps: Vec::new(),
        };
        (scenario.draw)(&mut draw);
        let mut steps = draw.steps;
        // A stable sort: what was drawn first happens first.
        steps.sort_by_key(|step| step.at);
        let last = steps.last().map_or(Duration::ZERO, |step| step.at);
        Self { steps, length: time.max(last) }
    }
}

/// Draws the steps of a plan.
pub(super) struct Draw {
    random: StdRng,
    span_ms: u64,
    /// Processes of each service that run at first.
    instances: usize,
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

    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.random.random_range(range)
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
        let sides = match self.side() {
            Side::Product => [Side::Product, Side::Order],
            Side::Order => [Side::Order, Side::Product],
        };
        sides.into_iter().cycle().zip(self.episodes(lasts_ms, pause_ms)).collect()
    }
}
