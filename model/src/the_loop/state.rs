//! All that there is at one moment: the owner's rows, the relays, the topic, the copies, and the answers on their way.

use std::collections::{BTreeMap, BTreeSet};

use common::event::Status;

use super::bounds::{Bounds, Faults};

/// Where an event, a relay or a consumer stands among its like.
pub type Place = usize;

/// What a consumer says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// SUCCESS.
    Success,
    /// REJECTED.
    Rejected,
    /// FAILED, and another attempt may pass.
    Failed,
    /// FAILED for good.
    Refused,
}

/// An event in the owner's database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// PROCESSED where its open row is gone.
    pub status: Status,
    /// The newest attempt that was counted.
    pub attempt: i32,
    /// The budget.
    pub limit: i32,
    /// Where its newest send lies, while that waits for an answer.
    pub offset: Option<i64>,
    /// Whether a send was ever noted.
    pub was_sent: bool,
    /// Whether it was resolved without an answer.
    pub is_resolved: bool,
    /// Its open alerts.
    pub alerts: u8,
    /// What each consumer said last, where several are asked.
    pub answers: Vec<Option<Reply>>,
}

/// What a relay has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hand {
    /// It has read an event, to send it as this attempt.
    Read(Place, i32),
    /// The broker has confirmed the attempt, at this offset.
    Confirmed(Place, i32, i64),
    /// The broker has confirmed a probe.
    Probed(Place, i32, i64),
}

/// A relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Relay {
    /// The token that it believes in; none where it knows that it holds no lease.
    pub token: Option<i64>,
    /// What it is at.
    pub hand: Option<Hand>,
}

/// A message in the topic; its offset is its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message {
    /// Of which event.
    pub event: Place,
    /// The number of its attempt.
    pub attempt: i32,
}

/// An answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// To which event.
    pub event: Place,
    /// To which of its attempts.
    pub attempt: i32,
    /// Whose.
    pub consumer: Place,
    /// What it says.
    pub reply: Reply,
    /// Which message it answers.
    pub offset: i64,
}

/// A batch between its transaction and its offsets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Batch {
    /// Applied, and not answered.
    Applied(usize, Vec<Answer>),
    /// Answered; its offsets are not committed.
    Answered(usize),
}

/// A consumer and its copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// The offset that its group has committed.
    pub committed: usize,
    /// What it has in hand.
    pub batch: Option<Batch>,
    /// The answers that its inbox keeps.
    pub inbox: BTreeMap<Place, Reply>,
    /// Epoch and version of its copy.
    pub copy: Option<(i64, i64)>,
    /// How often each event had its effect here.
    pub effects: Vec<u8>,
    /// How far the owner knows it to be.
    pub proven: Option<i64>,
}

/// All that there is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The events that are committed.
    pub rows: Vec<Row>,
    /// The newest token of the lease.
    pub token: i64,
    /// The relays.
    pub relays: Vec<Relay>,
    /// The topic.
    pub topic: Vec<Message>,
    /// The consumers.
    pub consumers: Vec<Consumer>,
    /// Answers that may be settled, at any time and as often as it pleases.
    pub answers: BTreeSet<Answer>,
    /// Who is asked no more.
    pub retired: Option<Place>,
    /// Whether what that one owed is still to be settled.
    pub is_letting_off: bool,
    /// What may still go wrong.
    pub left: Faults,
}

impl State {
    pub(super) fn initial(bounds: &Bounds) -> Self {
        let consumer = Consumer {
            committed: 0,
            batch: None,
            inbox: BTreeMap::new(),
            copy: None,
            effects: vec![0; bounds.versions.len()],
            proven: None,
        };
        Self {
            rows: Vec::new(),
            token: 0,
            relays: vec![Relay { token: None, hand: None }; bounds.relays],
            topic: Vec::new(),
            consumers: vec![consumer; bounds.consumers],
            answers: BTreeSet::new(),
            retired: None,
            is_letting_off: false,
            left: bounds.faults,
        }
    }

    /// Whether this relay's token is the newest one.
    pub fn is_holder(&self, relay: &Relay) -> bool {
        relay.token == Some(self.token)
    }

    /// Writes a message, and returns its offset.
    pub(super) fn write(&mut self, event: Place, attempt: i32) -> i64 {
        self.topic.push(Message { event, attempt });
        i64::try_from(self.topic.len()).unwrap_or(i64::MAX) - 1
    }
}
