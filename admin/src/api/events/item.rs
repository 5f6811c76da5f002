//! An event as operators see it: one row with one status, put together from the outbox's tables.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventKind, Status};
use common::http::{Problem, ProblemResult};
use common::ids::EventId;
use common::on;
use common::schema::outbox_event;
use common::trace_context::trace_id;
use diesel::prelude::*;
use engine::outbox::{ConsumerAnswer, Found, LastError, answers_of, last_errors};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::history::{self, HistoryEntry};

/// An event in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventItem {
    #[schema(value_type = String, format = "uuid")]
    pub(crate) id: EventId,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) epoch: i64,
    pub(crate) status: Status,
    /// The newest attempt that was counted.
    pub(crate) attempt: i32,
    /// Its limit of attempts; none once it is PROCESSED.
    pub(crate) attempt_limit: Option<i32>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// When its newest attempt was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) sent_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) settled_at: Option<Timestamp>,
    /// When it may be sent; PENDING only.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) due_at: Option<Timestamp>,
    /// SUCCESS or REJECTED; PROCESSED only.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) detail: Option<String>,
    /// When a person or a newer version resolved it; EXHAUSTED only.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) resolved_at: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    /// The class of that error: its text without what differs from event to event.
    pub(crate) error_class: Option<String>,
}

/// One event with its history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventDetail {
    #[serde(flatten)]
    pub(crate) item: EventItem,
    pub(crate) kind: EventKind,
    pub(crate) partition: Option<i32>,
    #[schema(value_type = Object)]
    pub(crate) payload: Box<RawValue>,
    pub(crate) traceparent: Option<String>,
    /// The trace that it belongs to, from `traceparent`.
    pub(crate) trace_id: Option<String>,
    /// Who answered.
    pub(crate) consumer: Option<String>,
    /// When the consumer handled it, by its own clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) processed_at: Option<Timestamp>,
    /// The version that the copy held afterwards.
    pub(crate) copy_version: Option<i64>,
    /// The result in the answer.
    #[schema(value_type = Option<Object>)]
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) history: Vec<HistoryEntry>,
    /// What each consumer said, and who still owes an answer; empty where one consumer is asked.
    pub(crate) answers: Vec<AnswerItem>,
}

/// What one of several consumers said of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerItem {
    /// Who.
    pub(crate) consumer: String,
    /// Whether the event waits, or waited, for it.
    pub(crate) required: bool,
    /// SUCCESS, REJECTED or FAILED; none: nothing yet.
    pub(crate) outcome: Option<&'static str>,
    /// `applied`, `duplicate` or `superseded`.
    pub(crate) detail: Option<String>,
    /// The newest attempt that it answered.
    pub(crate) attempt: Option<i32>,
    /// How often it said FAILED.
    pub(crate) failures: i32,
    /// The error of its newest failure.
    pub(crate) error: Option<String>,
    /// When it handled the event, by its own clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) processed_at: Option<Timestamp>,
}

impl From<ConsumerAnswer> for AnswerItem {
    fn from(answer: ConsumerAnswer) -> Self {
        let ConsumerAnswer { consumer, required, said } = answer;
        let said = said.as_ref();
        Self {
            consumer,
            required,
            outcome: said.map(|said| said.outcome.name()),
            detail: said.and_then(|said| said.detail.clone()),
            attempt: said.map(|said| said.attempt),
            failures: said.map_or(0, |said| said.failures),
            error: said.and_then(|said| said.error.clone()),
            processed_at: said.map(|said| said.processed_us),
        }
    }
}

fn into_item(found: Found, last: Option<LastError>) -> EventItem {
    let status = found.status();
    let (attempt, resolved_at) = (found.attempt(), found.resolved_at());
    let Found { head, open, settled } = found;
    let (last_error, error_class) = last.map(|last| (last.message, last.class)).unzip();
    let pending = open.as_ref().filter(|_| status == Status::Pending);
    let sent_open = open.as_ref().and_then(|open| open.sent_us);
    let sent_settled = settled.as_ref().and_then(|settled| settled.sent_us);
    EventItem {
        id: head.id,
        event_type: head.event_type,
        key: head.key,
        version: head.version,
        epoch: head.epoch,
        status,
        attempt,
        attempt_limit: open.as_ref().map(|open| open.attempt_limit),
        created_at: head.created_us,
        sent_at: sent_open.or(sent_settled),
        settled_at: settled.as_ref().map(|settled| settled.settled_us),
        due_at: pending.map(|open| open.due_us),
        outcome: settled.as_ref().map(|settled| settled.outcome.name()),
        detail: settled.and_then(|settled| settled.detail),
        resolved_at,
        last_error,
        error_class,
    }
}

impl EventItem {
    /// What a list shows of `ids`.
    pub(crate) fn of_ids(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<Self>> {
        let found = Found::load(conn, ids)?;
        Self::list(conn, found)
    }

    /// What a list shows of `found`.
    pub(crate) fn list(conn: &mut Conn, found: Vec<Found>) -> QueryResult<Vec<Self>> {
        let ids: Vec<EventId> = found.iter().map(|row| row.head.id).collect();
        let mut errors = last_errors(conn, &ids)?;
        let items = found.into_iter().map(|row| {
            let error = errors.remove(&row.head.id);
            into_item(row, error)
        });
        Ok(items.collect())
    }
}

impl EventDetail {
    /// All that is known of one event; none if there is no such event.
    ///
    /// # Errors
    /// When a statement fails.
    pub(crate) fn find(conn: &mut Conn, id: EventId) -> ProblemResult<Option<Self>> {
        let Some(found) = Found::load(conn, &[id])?.pop() else {
            return Ok(None);
        };
        let (payload, traceparent): (String, Option<String>) = on!(conn, c => outbox_event::table
            .find(id)
            .select((outbox_event::payload, outbox_event::traceparent))
            .first(c))?;
        let history = history::of(conn, &found)?;
        let last_error = last_errors(conn, &[id])?.remove(&id);
        let answers = answers_of(conn, &found)?.into_iter().map(AnswerItem::from).collect();
        let settled = found.settled.as_ref();
        let result = settled.and_then(|settled| settled.result.clone());
        Ok(Some(Self {
            kind: found.head.kind,
            partition: match &found.open {
                Some(open) => open.partition,
                None => settled.and_then(|settled| settled.partition),
            },
            payload: json(payload)?,
            trace_id: traceparent.as_deref().and_then(trace_id).map(str::to_owned),
            traceparent,
            consumer: settled.map(|settled| settled.consumer.clone()),
            processed_at: settled.and_then(|settled| settled.processed_us),
            copy_version: settled.and_then(|settled| settled.version),
            result: result.map(json).transpose()?,
            history,
            answers,
            item: into_item(found, last_error),
        }))
    }
}

/// Stored JSON as it was written, digit by digit; a text that is not JSON is shown as a string.
fn json(text: String) -> ProblemResult<Box<RawValue>> {
    RawValue::from_string(text.clone())
        .or_else(|_| to_raw_value(&text))
        .map_err(|error| Problem::internal(&error))
}
