//! What goes out: events, their kinds and their states as stored.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::{EventId, EventIdSql};
use crate::schema::{outbox_event, outbox_history, outbox_open, outbox_settled};

/// How an event may be treated on its way; declared per type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The whole state of one key with its version: a newer one makes an older one superfluous.
    Snapshot,
    /// Happens once, is never superseded, and may be answered REJECTED.
    Command,
}

impl EventKind {
    /// As stored.
    pub const fn code(self) -> i16 {
        match self {
            Self::Snapshot => 0,
            Self::Command => 1,
        }
    }

    /// From its stored form.
    pub const fn of_code(code: i16) -> Self {
        match code {
            0 => Self::Snapshot,
            _ => Self::Command,
        }
    }
}

/// A type of event, such as `stockloop.inventory.changed`, declared once by the service that sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    /// The `ce_type` on the wire.
    pub name: &'static str,
    /// Its rules.
    pub kind: EventKind,
}

/// An event that a change causes, handed to [`super::Outbox::append`] inside the change's transaction.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What it is.
    pub event_type: EventType,
    /// What it is about; events of one key are sent in order and land in one partition.
    pub key: String,
    /// The key's version after the change; 0 for commands.
    pub version: i64,
    /// The JSON that goes out as the message's data.
    pub payload: String,
    /// The W3C trace context of the request that caused it.
    pub traceparent: Option<String>,
}

/// The status of an event, as people know it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    serde::Deserialize,
    ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = EventStatus)]
pub enum Status {
    /// Committed, to be sent when it is due.
    Pending,
    /// The broker has it; its consumer has not answered yet.
    Sent,
    /// Answered for good. Terminal.
    Processed,
    /// Out of attempts, or failed for good: a person has to act.
    Exhausted,
}

impl Status {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Processed => "PROCESSED",
            Self::Exhausted => "EXHAUSTED",
        }
    }
}

/// The appended row of an event.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, QueryableByName)]
#[diesel(table_name = outbox_event)]
pub struct EventRow {
    /// The event's id.
    pub id: EventId,
    /// [`EventKind`] as a code.
    pub kind: i16,
    /// The `ce_type`.
    pub event_type: String,
    /// What it is about.
    pub key: String,
    /// The database's epoch when it was made.
    pub epoch: i64,
    /// The key's version; 0 for commands.
    pub version: i64,
    /// The message's data, JSON.
    pub payload: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// When it was committed (just before, to be exact).
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub created_us: Timestamp,
}

/// What an event is, without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = outbox_event)]
pub struct EventFacts {
    /// The event's id.
    pub id: EventId,
    /// [`EventKind`] as a code.
    pub kind: i16,
    /// The `ce_type`.
    pub event_type: String,
    /// What it is about.
    pub key: String,
    /// The database's epoch when it was made.
    pub epoch: i64,
    /// The key's version; 0 for commands.
    pub version: i64,
    /// When it was committed.
    pub created_us: Timestamp,
}

impl EventRow {
    /// The event without its payload.
    pub fn facts(&self) -> EventFacts {
        EventFacts {
            id: self.id,
            kind: self.kind,
            event_type: self.event_type.clone(),
            key: self.key.clone(),
            epoch: self.epoch,
            version: self.version,
            created_us: self.created_us,
        }
    }
}

/// The narrow row of an event that is not settled.
#[derive(
    Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset, QueryableByName,
)]
#[diesel(treat_none_as_null = true)]
#[diesel(table_name = outbox_open)]
pub struct OpenRow {
    /// The event's id.
    #[diesel(sql_type = EventIdSql)]
    pub id: EventId,
    /// Which shard's holder sends it.
    pub shard: i16,
    /// 0 PENDING, 1 SENT, 2 EXHAUSTED.
    pub status: i16,
    /// The newest attempt that was counted.
    pub attempt: i32,
    /// The budget.
    pub attempt_limit: i32,
    /// When it may be sent.
    pub due_us: Timestamp,
    /// Where it was sent to.
    pub partition: Option<i32>,
    /// When it was sent.
    pub sent_us: Option<Timestamp>,
    /// Bytes of its payload.
    pub size: i32,
    /// When an operator, or a newer version, resolved it without an answer.
    pub resolved_us: Option<Timestamp>,
}

/// The appended row of an event that is PROCESSED.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = outbox_settled)]
pub struct SettledRow {
    /// The event's id.
    pub id: EventId,
    /// 0 SUCCESS, 1 REJECTED.
    pub outcome: i16,
    /// `applied`, `duplicate` or `superseded`.
    pub detail: Option<String>,
    /// The attempt that was answered.
    pub attempt: i32,
    /// Where it was sent to; unknown when the answer came before the send was noted.
    pub partition: Option<i32>,
    /// When it was sent.
    pub sent_us: Option<Timestamp>,
    /// When the answer was noted.
    pub settled_us: Timestamp,
    /// When the consumer handled it, by its clock.
    pub processed_us: Option<Timestamp>,
    /// The version that the copy held afterwards.
    pub version: Option<i64>,
    /// Who answered.
    pub consumer: String,
    /// What the answer carried, JSON.
    pub result: Option<String>,
}

/// A line of an event's history, besides the straight way.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = outbox_history)]
pub struct HistoryRow {
    /// The event.
    pub event_id: EventId,
    /// When it happened.
    pub at_us: Timestamp,
    /// Which attempt it is about.
    pub attempt: i32,
    /// When that attempt was sent, if it was.
    pub sent_us: Option<Timestamp>,
    /// `FAILED`, `OVERDUE`, `UNPRODUCIBLE`, `PROBED`, `LATE`, `RETRIED`, `RESOLVED` or `SUPERSEDED`.
    pub what: String,
    /// What went wrong, or why a person acted.
    pub error: Option<String>,
    /// Who acted, if it was a person.
    pub by_whom: Option<String>,
    /// The class of the error, if something went wrong.
    pub class: Option<String>,
}
