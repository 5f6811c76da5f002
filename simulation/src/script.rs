//! What happens in a run: a list of steps, drawn from a seed. Each means something whatever came before it, so that any
//! of them can be left out.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::broker::PARTITIONS;

/// Instances of the service that sends.
pub(crate) const INSTANCES: usize = 2;

/// Products.
const PRODUCTS: usize = 3;

/// One of whatever there is.
const ANY: usize = 1_000;

/// A step of one of the engine's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// Asks for leases.
    Renew,
    /// Sends what is due, and notes what was sent.
    Relay,
    /// Looks for what is overdue or silent, and lets off who is asked no more.
    Watch,
    /// Settles answers.
    Settle,
    /// Writes mails of alerts, and sends them.
    Mail,
}

/// One thing that happens. What is picked is one of those that there are; parts are the instances, then the consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A product changes, and its new state is committed as a snapshot.
    Change(usize),
    /// An order is committed as a command, which is rejected or carried out.
    Order { rejected: bool },
    /// An instance begins a step of a job, unless one of it is under way.
    Begin { instance: usize, job: Job },
    /// The broker writes down what is on its way to it, and has not told yet.
    Land(usize),
    /// The broker tells that it has what was on its way.
    Confirm(usize),
    /// A consumer gets what comes next in a partition.
    Deliver { consumer: usize, partition: i32, most: usize },
    /// Milliseconds pass.
    Pass(u64),

    /// Nobody tells a sender in time, whether the broker has its messages or not.
    Refuse(usize),
    /// A consumer never gets what comes next in a partition.
    Lose { consumer: usize, partition: i32 },
    /// What comes next of the answers in a partition is lost.
    LoseAnswers(i32),
    /// A consumer's handler fails the next event that it gets.
    Fail { consumer: usize, retryable: bool },
    /// A consumer's partitions go to a new process; the old one goes on with what it has.
    Rebalance(usize),
    /// An instance dies, some turns after it began a step of a job, and another one starts.
    Crash { instance: usize, amid: Job, turns: u32 },
    /// A consumer dies, some turns after it got its next messages, and starts again.
    CrashConsumer { consumer: usize, turns: u32 },
    /// The way of a part's newest process to its database breaks so many times.
    Break { part: usize, ways: u32 },
    /// A part's newest process stands still, before or after whatever it does with its database.
    Freeze { part: usize, millis: u64 },
    /// The mail server refuses so many times.
    RefuseMails(usize),
    /// A command is committed that the broker takes in no way.
    Oversized,
    /// An operator retries, or resolves, the first event that waits for a person.
    Operate { retry: bool },
    /// The second consumer is retired.
    Retire,
}

/// What happens in a run, and to whom.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it was drawn from; ways to databases and backoffs go by it, too.
    pub(crate) seed: u64,
    /// How many consumers are asked.
    pub(crate) consumers: usize,
    /// In this order.
    pub(crate) steps: Vec<Step>,
}

type Draw = fn(&mut StdRng) -> Step;

/// What happens when nothing goes wrong, and how often.
const ORDINARY: [(u32, Draw); 7] = [
    (8, |r| Step::Change(below(r, PRODUCTS))),
    (3, |r| Step::Order { rejected: r.random_bool(0.2) }),
    (26, |r| Step::Begin { instance: below(r, INSTANCES), job: job(r) }),
    (4, |r| Step::Land(below(r, ANY))),
    (13, |r| Step::Confirm(below(r, ANY))),
    (12, |r| Step::Deliver {
        consumer: below(r, 2),
        partition: partition(r),
        most: 1 + below(r, 4),
    }),
    (7, |r| Step::Pass(any_of(r, [5, 50, 300, 1_200, 2_500, 6_000]))),
];

/// What goes wrong, and how often where it does.
const FAULTS: [(u32, Draw); 13] = [
    (3, |r| Step::Refuse(below(r, ANY))),
    (2, |r| Step::Lose { consumer: below(r, 2), partition: partition(r) }),
    (2, |r| Step::LoseAnswers(partition(r))),
    (3, |r| Step::Fail { consumer: below(r, 2), retryable: r.random_bool(0.7) }),
    (2, |r| Step::Rebalance(below(r, 2))),
    (4, |r| Step::Crash {
        instance: below(r, INSTANCES),
        amid: job(r),
        turns: r.random_range(0..20),
    }),
    (3, |r| Step::CrashConsumer { consumer: below(r, 2), turns: r.random_range(0..8) }),
    (3, |r| Step::Break { part: below(r, INSTANCES + 2), ways: r.random_range(1..4) }),
    (2, |r| Step::Freeze { part: below(r, INSTANCES + 2), millis: any_of(r, [100, 2_000, 8_000]) }),
    (1, |r| Step::RefuseMails(1 + below(r, 3))),
    (2, |r| Step::Operate { retry: r.random_bool(0.7) }),
    (1, |_| Step::Oversized),
    (1, |_| Step::Retire),
];

impl Script {
    /// The script of `seed`. Each has faults of its own kinds, some have none: what one fault hides, another run shows.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let consumers = random.random_range(1..=2);
        let faults: Vec<_> = FAULTS.into_iter().filter(|_| random.random_bool(0.4)).collect();
        let kinds: Vec<(u32, Draw)> = ORDINARY.into_iter().chain(faults).collect();
        let begun = (0..2 * INSTANCES)
            .map(|place| Step::Begin { instance: place % INSTANCES, job: Job::Renew });
        let number = random.random_range(20..=60);
        let drawn = (0..number).filter_map(|_| {
            let (_, draw) = kinds.choose_weighted(&mut random, |kind| kind.0).ok()?;
            Some(draw(&mut random))
        });
        Self { seed, consumers, steps: begun.chain(drawn).collect() }
    }
}

fn below(random: &mut StdRng, end: usize) -> usize {
    random.random_range(0..end)
}

fn partition(random: &mut StdRng) -> i32 {
    random.random_range(0..PARTITIONS)
}

fn any_of<const N: usize>(random: &mut StdRng, choices: [u64; N]) -> u64 {
    choices.choose(random).copied().unwrap_or_default()
}

fn job(random: &mut StdRng) -> Job {
    match random.random_range(0..20) {
        0..4 => Job::Renew,
        4..11 => Job::Relay,
        11..14 => Job::Watch,
        14..19 => Job::Settle,
        _ => Job::Mail,
    }
}
