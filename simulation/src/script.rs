//! What happens in a run: a list of steps, drawn from a seed. Each means something whatever came before it, so that any of
//! them can be left out.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::broker::PARTITIONS;

/// Instances of the service that sends.
pub(crate) const INSTANCES: usize = 2;

/// Products.
pub(crate) const PRODUCTS: usize = 3;

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
    Deliver { consumer: usize, partition: usize, most: usize },
    /// Milliseconds pass.
    Pass(u64),

    /// Nobody tells a sender in time, whether the broker has its messages or not.
    Refuse(usize),
    /// A message lies twice in its partition.
    Repeat(usize),
    /// A consumer never gets what comes next in a partition.
    Lose { consumer: usize, partition: usize },
    /// What comes next of the answers in a partition is lost.
    LoseAnswers(usize),
    /// The answers that come next in a partition come the other way round.
    SwapAnswers(usize),
    /// A consumer's handler fails the next event that it gets.
    Fail { consumer: usize, retryable: bool },
    /// A consumer's partitions go to a new process; the old one goes on with what it has.
    Rebalance(usize),
    /// An instance dies, some turns after it began a step of a job, and another one starts.
    Crash { instance: usize, amid: Job, turns: u32 },
    /// A consumer dies, some turns after it got its next messages, and starts again.
    CrashConsumer { consumer: usize, turns: u32 },
    /// The way of a part to its database breaks so many times.
    Break { part: usize, ways: u32 },
    /// A part stands still, before or after whatever it does with its database.
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
    (8, |random| Step::Change(random.random_range(0..PRODUCTS))),
    (3, |random| Step::Order { rejected: random.random_bool(0.2) }),
    (26, |random| Step::Begin { instance: instance(random), job: job(random) }),
    (4, |random| Step::Land(pick(random))),
    (13, |random| Step::Confirm(pick(random))),
    (12, |random| Step::Deliver {
        consumer: consumer(random),
        partition: partition(random),
        most: random.random_range(1..=4),
    }),
    (7, |random| Step::Pass(any_of(random, [5, 50, 300, 1_200, 2_500, 6_000]))),
];

/// What goes wrong, and how often where it does.
const FAULTS: [(u32, Draw); 15] = [
    (3, |random| Step::Refuse(pick(random))),
    (2, |random| Step::Repeat(pick(random))),
    (2, |random| Step::Lose { consumer: consumer(random), partition: partition(random) }),
    (2, |random| Step::LoseAnswers(partition(random))),
    (2, |random| Step::SwapAnswers(partition(random))),
    (3, |random| Step::Fail { consumer: consumer(random), retryable: random.random_bool(0.7) }),
    (2, |random| Step::Rebalance(consumer(random))),
    (4, |random| Step::Crash {
        instance: instance(random),
        amid: job(random),
        turns: random.random_range(0..20),
    }),
    (3, |random| Step::CrashConsumer {
        consumer: consumer(random),
        turns: random.random_range(0..8),
    }),
    (3, |random| Step::Break { part: part(random), ways: random.random_range(1..4) }),
    (2, |random| Step::Freeze { part: part(random), millis: any_of(random, [100, 2_000, 8_000]) }),
    (1, |random| Step::RefuseMails(random.random_range(1..4))),
    (2, |random| Step::Operate { retry: random.random_bool(0.7) }),
    (1, |_| Step::Oversized),
    (1, |_| Step::Retire),
];

/// Steps of a run, at the least and at the most.
const STEPS: (usize, usize) = (20, 60);

impl Script {
    /// The script of `seed`. Each has faults of its own kinds, some have none: what one fault hides, another run shows.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let consumers = random.random_range(1..=2);
        let faults = FAULTS.into_iter().filter(|_| random.random_bool(0.4)).collect::<Vec<_>>();
        let kinds: Vec<(u32, Draw)> = ORDINARY.into_iter().chain(faults).collect();
        let number = random.random_range(STEPS.0..=STEPS.1);
        let begun = (0..INSTANCES).chain(0..INSTANCES);
        let begun = begun.map(|instance| Step::Begin { instance, job: Job::Renew });
        let drawn = (0..number).map(|_| draw(&mut random, &kinds));
        Self { seed, consumers, steps: begun.chain(drawn).collect() }
    }
}

fn draw(random: &mut StdRng, kinds: &[(u32, Draw)]) -> Step {
    let all: u32 = kinds.iter().map(|(weight, _)| weight).sum();
    let mut place = random.random_range(0..all);
    for (weight, draw) in kinds {
        if place < *weight {
            return draw(random);
        }
        place -= weight;
    }
    Step::Pass(1)
}

fn any_of<const N: usize>(random: &mut StdRng, choices: [u64; N]) -> u64 {
    choices.get(random.random_range(0..N)).copied().unwrap_or_default()
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

fn instance(random: &mut StdRng) -> usize {
    random.random_range(0..INSTANCES)
}

fn consumer(random: &mut StdRng) -> usize {
    random.random_range(0..2)
}

fn part(random: &mut StdRng) -> usize {
    random.random_range(0..INSTANCES + 2)
}

fn partition(random: &mut StdRng) -> usize {
    random.random_range(0..PARTITIONS)
}

/// One of whatever there is.
fn pick(random: &mut StdRng) -> usize {
    random.random_range(0..1_000)
}
