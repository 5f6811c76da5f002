//! What happens to events, and what comes of it: what goes into the one way by which they change, and what comes out.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::event::Status;
use common::ids::EventId;
use common::telemetry::few_for_the_log;
use common::trace_context::trace_id;

use super::model::OpenRow;
use super::state::Trigger;
use crate::kafka::{Ack, Verdict};

/// Something that happened to one event, with what its history has to say of it.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) id: EventId,
    pub(super) trigger: Trigger,
    pub(super) error: Option<String>,
    pub(super) by_whom: Option<String>,
    /// The consumer that it is about, if it is about one.
    pub(super) consumer: Option<String>,
    /// The answer, if this is one.
    pub(super) ack: Option<Ack>,
}

impl Update {
    pub(super) fn new(id: EventId, trigger: Trigger) -> Self {
        Self { id, trigger, error: None, by_whom: None, consumer: None, ack: None }
    }

    pub(super) fn answered(ack: Ack) -> Self {
        Self {
            id: ack.event_id,
            trigger: Trigger::answered_by(&ack),
            error: ack.error.clone(),
            by_whom: None,
            consumer: Some(ack.consumer.clone()),
            ack: Some(ack),
        }
    }

    /// `consumer` passed the event by.
    pub(super) fn overdue(id: EventId, consumer: &str) -> Self {
        Self { consumer: Some(consumer.to_owned()), ..Self::new(id, Trigger::Overdue) }
    }

    #[must_use]
    pub(super) fn because(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// An event that became PROCESSED, for whoever measures.
#[derive(Debug, Clone, Copy)]
pub struct SettledEvent {
    /// When it was committed.
    pub created: Timestamp,
    /// When its consumer handled it.
    pub processed: Option<Timestamp>,
    /// Whether the answer was SUCCESS (else REJECTED).
    pub success: bool,
}

/// An answer that belongs to a recorded trace.
#[derive(Debug, Clone)]
pub struct AnsweredTrace {
    /// The event.
    pub id: EventId,
    /// What it is about.
    pub key: String,
    /// The attempt that was answered.
    pub attempt: i32,
    /// The answer.
    pub verdict: Verdict,
    /// Where the step that answered is in its trace.
    pub traceparent: String,
    /// The event's status now.
    pub status: Status,
}

/// An event that waits for a person now.
#[derive(Debug, Clone)]
pub struct ExhaustedEvent {
    pub(super) id: EventId,
    pub(super) key: String,
    pub(super) attempt: i32,
    /// The trace of the answer, if an answer was the reason.
    pub(super) traceparent: Option<String>,
}

/// What became of the events that something happened to.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Events that are PROCESSED now.
    pub settled: Vec<SettledEvent>,
    /// The answers of traces that are recorded.
    pub traced: Vec<AnsweredTrace>,
    /// Events that are EXHAUSTED now, for the log.
    pub newly_exhausted: Vec<ExhaustedEvent>,
    /// Events that are EXHAUSTED now.
    pub exhausted: usize,
    /// Events that are PENDING again.
    pub again: usize,
    /// When the first of those is due.
    pub next_due: Option<Timestamp>,
    /// The rows as they are now, of events that are still open.
    pub rows: Vec<OpenRow>,
    /// Ids that are not open: PROCESSED before, or unknown.
    pub not_open: Vec<EventId>,
    /// What left the state SENT: shard, events, bytes.
    pub released: BTreeMap<i16, (i64, i64)>,
    /// Consumers that gave answers, in which partitions, and the greatest offset that these prove to be reached.
    pub answered: BTreeMap<(String, i32), Option<i64>>,
    /// (key, epoch, version) of snapshots that are PROCESSED now and may supersede more than this step took.
    pub superseding: Vec<(String, i64, i64)>,
}

impl Advanced {
    /// Notes that something is PENDING again, and `due` then.
    pub(super) fn note_due(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// Logs what gave up; to be called once that is committed.
    pub(super) fn log_exhausted(&self) {
        for event in few_for_the_log(&self.newly_exhausted) {
            let ExhaustedEvent { id, key, attempt, traceparent } = event;
            let trace_id = traceparent.as_deref().and_then(trace_id);
            tracing::error!(event_id = %id, key, attempt, trace_id, "an event is EXHAUSTED and waits for a person");
        }
    }
}
