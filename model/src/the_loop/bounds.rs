//! How large the model is, and in which known ways it may be broken.

use common::event::EventKind;

/// What may go wrong, and how often; in a state, how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A relay dies, with what it has in hand.
    pub crashes: u8,
    /// A lease ends while its holder believes in it, and another relay takes it.
    pub takeovers: u8,
    /// An answer is lost on its way, or a message is passed over by a consumer.
    pub lost: u8,
    /// A consumer answers FAILED or, of a command, REJECTED; or a message can't be produced.
    pub failures: u8,
    /// A probe is sent although an answer is still on its way.
    pub hasty_probes: u8,
    /// An operator retries or resolves what is EXHAUSTED.
    pub operations: u8,
    /// A consumer reads its partition from the beginning once more.
    pub rewinds: u8,
    /// A consumer is retired.
    pub retirements: u8,
    /// A consumer dies, with what it has in hand.
    pub consumer_crashes: u8,
}

/// How large the model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// What it is to show, in a word.
    pub name: &'static str,
    /// The rules of all events.
    pub kind: EventKind,
    /// Epoch and version of each change, all of one key, in the order of their commits.
    pub versions: &'static [(i64, i64)],
    /// Relays.
    pub relays: usize,
    /// Required consumers, three at the most.
    pub consumers: usize,
    /// The budget of attempts.
    pub attempts: i32,
    /// Messages of one transaction of a consumer at the most.
    pub batch: usize,
    /// Whether what nobody answers is sent again as a probe.
    pub is_probed: bool,
    /// What may go wrong.
    pub faults: Faults,
}

impl Bounds {
    /// One change of one key, one relay, one consumer, two attempts, and nothing that goes wrong.
    pub fn smallest(name: &'static str) -> Self {
        Self {
            name,
            kind: EventKind::Snapshot,
            versions: &[(1, 1)],
            relays: 1,
            consumers: 1,
            attempts: 2,
            batch: 1,
            is_probed: true,
            faults: Faults::default(),
        }
    }

    /// Explored in seconds, unoptimized: what the tests hold.
    pub fn small() -> Vec<Self> {
        let none = Faults::default();
        vec![
            Self {
                relays: 2,
                faults: Faults { crashes: 1, takeovers: 1, failures: 1, ..none },
                ..Self::smallest("two relays, one freezes, one dies")
            },
            Self {
                relays: 2,
                versions: &[(1, 1), (1, 2)],
                faults: Faults { takeovers: 1, ..none },
                ..Self::smallest("two versions, one relay freezes")
            },
            Self {
                faults: Faults { lost: 1, failures: 1, rewinds: 1, consumer_crashes: 1, ..none },
                ..Self::smallest("a consumer dies, reads again, loses")
            },
            Self {
                kind: EventKind::Command,
                faults: Faults {
                    failures: 2,
                    operations: 1,
                    rewinds: 1,
                    consumer_crashes: 1,
                    ..none
                },
                ..Self::smallest("a command, rejected or done once")
            },
            Self {
                faults: Faults { lost: 1, failures: 2, hasty_probes: 1, operations: 1, ..none },
                ..Self::smallest("hasty probes, and an operator")
            },
            Self {
                versions: &[(1, 5), (2, 1)],
                batch: 2,
                faults: Faults { failures: 1, lost: 1, ..none },
                ..Self::smallest("two epochs, folded")
            },
            Self {
                consumers: 2,
                faults: Faults { failures: 1, lost: 1, ..none },
                ..Self::smallest("two consumers")
            },
            Self {
                consumers: 2,
                faults: Faults { retirements: 1, lost: 1, ..none },
                ..Self::smallest("one of two consumers is retired")
            },
        ]
    }

    /// Explored in minutes, optimized.
    pub fn large() -> Vec<Self> {
        let none = Faults::default();
        vec![
            Self {
                relays: 2,
                faults: Faults { crashes: 1, takeovers: 1, lost: 1, failures: 1, ..none },
                ..Self::smallest("relays: freeze, crash, loss, failure")
            },
            Self {
                relays: 2,
                versions: &[(1, 1), (1, 2)],
                faults: Faults { takeovers: 1, failures: 1, ..none },
                ..Self::smallest("relays: two versions, freeze, failure")
            },
            Self {
                versions: &[(1, 5), (2, 1)],
                batch: 2,
                faults: Faults { lost: 1, failures: 2, consumer_crashes: 1, ..none },
                ..Self::smallest("copy: two epochs, failures, crash, loss")
            },
            Self {
                consumers: 2,
                faults: Faults { lost: 1, failures: 2, consumer_crashes: 1, ..none },
                ..Self::smallest("consumers: failures, crash, loss")
            },
            Self {
                consumers: 2,
                faults: Faults {
                    lost: 1,
                    failures: 1,
                    retirements: 1,
                    consumer_crashes: 1,
                    ..none
                },
                ..Self::smallest("consumers: one is retired, failure, crash, loss")
            },
            Self {
                consumers: 2,
                versions: &[(1, 1), (1, 2)],
                faults: Faults { retirements: 1, ..none },
                ..Self::smallest("consumers: two versions, one is retired")
            },
        ]
    }
}

/// Ways to break the protocol, to see that the model can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A relay writes although another one has taken its lease.
    NoFence,
    /// A confirmed send makes its event SENT, whatever that is by now.
    NoCompareAndSet,
    /// A consumer moves on before it has answered.
    OffsetsFirst,
    /// The first of several answers settles an event.
    FirstAnswerSettles,
    /// A consumer does not know again what it has applied.
    NoInbox,
    /// A consumer writes what comes, newer or not.
    NoVersionGuard,
    /// Giving up raises no alert.
    NoAlert,
    /// Where a consumer is retired, what is not noted as sent yet is not looked at.
    UnnotedNotLetOff,
    /// What failed is sent again, however often that was.
    NoLimit,
    /// A relay numbers an attempt by what was sent, noted or not.
    CountsUnnoted,
    /// A retry says how many attempts there are in all, and not how many more.
    RetryInAll,
    /// What nobody answers is given up, and not sent again.
    SilenceGivesUp,
}
