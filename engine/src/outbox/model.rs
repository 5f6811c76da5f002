//! The rows of events on their way: open, settled, and their history.

use common::clock::Timestamp;
use common::ids::{EventId, EventIdSql};
use common::schema::{outbox_history, outbox_open, outbox_settled};
use diesel::prelude::*;

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
