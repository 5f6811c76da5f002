//! The rows of events on their way: open, settled, and their history.

use common::clock::Timestamp;
use common::event::Status;
use common::ids::{EventId, EventIdSql};
use common::schema::{outbox_history, outbox_open, outbox_settled};
use common::{stored_by_code, stored_by_name};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{SmallInt, Text};

/// How an event was answered for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum FinalOutcome {
    /// It had its effect.
    Success,
    /// Handled, and the answer is no.
    Rejected,
}

stored_by_code!(FinalOutcome { Success => 0, Rejected => 1 });

impl FinalOutcome {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Rejected => "REJECTED",
        }
    }
}

/// What a line of an event's history tells of; what goes straight has no lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum HistoryKind {
    /// The consumer answered FAILED.
    Failed,
    /// The consumer rejected what may not be rejected.
    Rejected,
    /// The consumer passed it by.
    Overdue,
    /// It can't be produced as it is.
    Unproducible,
    /// It was sent once more, to see whether anybody answers.
    Probed,
    /// FAILED, of an attempt that nobody waits for any more.
    Late,
    /// An operator sent it again.
    Retried,
    /// An operator settled it by hand.
    Resolved,
    /// A newer version of its key is PROCESSED.
    Superseded,
}

stored_by_name!(HistoryKind {
    Failed => "FAILED",
    Rejected => "REJECTED",
    Overdue => "OVERDUE",
    Unproducible => "UNPRODUCIBLE",
    Probed => "PROBED",
    Late => "LATE",
    Retried => "RETRIED",
    Resolved => "RESOLVED",
    Superseded => "SUPERSEDED",
});

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
    /// PENDING, SENT or EXHAUSTED.
    pub status: Status,
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
    /// Where in its partition it was written.
    pub sent_offset: Option<i64>,
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
    /// Whether it was applied or rejected.
    pub outcome: FinalOutcome,
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
    /// What it tells of.
    pub what: HistoryKind,
    /// What went wrong, or why a person acted.
    pub error: Option<String>,
    /// Who acted, if it was a person.
    pub by_whom: Option<String>,
    /// The class of the error, if something went wrong.
    pub class: Option<String>,
}
