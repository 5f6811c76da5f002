//! Events: what they are, which rules they have, and how they travel.
//!
//! The vocabulary that both sides of the loop share: a service declares its types, the outbox sends events of them,
//! the inbox of another service receives them.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::SmallInt;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::EventId;
use crate::schema::outbox_event;
use crate::stored_by_code;

/// How an event may be treated on its way; declared per type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The whole state of one key with its version: a newer one makes an older one superfluous.
    Snapshot,
    /// Happens once, is never superseded, and may be answered REJECTED.
    Command,
}

stored_by_code!(EventKind { Snapshot => 0, Command => 1 });

/// A type of event, such as `stockloop.inventory.changed`, declared once by the service that sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    /// The `ce_type` on the wire.
    pub name: &'static str,
    /// Its rules.
    pub kind: EventKind,
}

/// An event that a change causes, handed to the outbox inside the change's transaction.
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
    AsExpression,
    FromSqlRow,
)]
#[diesel(sql_type = SmallInt)]
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

// A PROCESSED event has no open row: its code is never stored.
stored_by_code!(Status { Pending => 0, Sent => 1, Exhausted => 2, Processed => 3 });

impl Status {
    /// All of them, in the order of an event's life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Sent, Self::Exhausted, Self::Processed];

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
    /// Its rules.
    pub kind: EventKind,
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
    /// Its rules.
    pub kind: EventKind,
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

/// An event as it travels: read from the wire, or about to be written to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id: one effect per id.
    pub id: EventId,
    /// The `ce_type`.
    pub event_type: String,
    /// What it is about.
    pub key: String,
    /// The epoch of the database that it comes from.
    pub epoch: i64,
    /// Which attempt this delivery is.
    pub attempt: i32,
    /// When it happened, by its source's clock.
    pub time: Timestamp,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The data, JSON.
    pub data: Vec<u8>,
}
