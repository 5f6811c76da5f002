//! The rows of events on their way: open, settled, and their history.

use common::clock::Timestamp;
use common::event::{EventKind, Status};
use common::ids::EventId;
use common::schema::{
    outbox_answer, outbox_failed, outbox_history, outbox_open, outbox_pending, outbox_sent,
    outbox_settled,
};
use common::{stored_by_code, stored_by_name};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{SmallInt, Text};

use crate::kafka::{Ack, Verdict};

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

/// What a consumer said of an event last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum Said {
    /// It has its effect.
    Success,
    /// Handled, and the answer is no.
    Rejected,
    /// A technical fault.
    Failed,
}

stored_by_code!(Said { Success => 0, Rejected => 1, Failed => 2 });

impl Said {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Rejected => "REJECTED",
            Self::Failed => "FAILED",
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
    /// FAILED or REJECTED, where nobody waits for that answer any more.
    Late,
    /// An operator sent it again.
    Retried,
    /// An operator settled it by hand.
    Resolved,
    /// A newer version of its key is PROCESSED.
    Superseded,
    /// Whoever still owed an answer is not asked any more.
    LetOff,
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
    LetOff => "LET_OFF",
});

/// An event that is not settled, wherever its row lies.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = outbox_open)]
pub struct OpenRow {
    /// The event's id.
    pub id: EventId,
    /// Which shard's holder sends it.
    pub shard: i16,
    /// PENDING, SENT or EXHAUSTED.
    pub status: Status,
    /// The newest attempt that was counted.
    pub attempt: i32,
    /// The budget.
    pub attempt_limit: i32,
    /// When it may be sent again; when it was committed or sent, where nothing makes it wait.
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

/// The row of an event that was never sent.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = outbox_pending)]
pub(super) struct PendingRow {
    pub(super) id: EventId,
    pub(super) shard: i16,
    pub(super) attempt_limit: i32,
    pub(super) due_us: Timestamp,
    pub(super) size: i32,
}

/// The row of an event that is appended.
#[derive(Debug, Insertable)]
#[diesel(table_name = outbox_pending)]
pub(super) struct NewPending {
    pub(super) id: EventId,
    pub(super) shard: i16,
    /// The order of commits; PostgreSQL knows its own.
    pub(super) tx: Option<i64>,
    pub(super) attempt_limit: i32,
    pub(super) due_us: Timestamp,
    pub(super) size: i32,
}

/// The row of an event that waits for its answer.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = outbox_sent)]
pub(super) struct SentRow {
    pub(super) id: EventId,
    pub(super) shard: i16,
    pub(super) attempt: i32,
    pub(super) attempt_limit: i32,
    pub(super) partition: i32,
    pub(super) sent_us: Timestamp,
    pub(super) sent_offset: Option<i64>,
    pub(super) size: i32,
}

/// The row of an event that waits for another attempt, or for a person.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = outbox_failed)]
pub(super) struct FailedRow {
    pub(super) id: EventId,
    pub(super) shard: i16,
    pub(super) status: Status,
    pub(super) attempt: i32,
    pub(super) attempt_limit: i32,
    pub(super) due_us: Timestamp,
    pub(super) partition: Option<i32>,
    pub(super) sent_us: Option<Timestamp>,
    pub(super) sent_offset: Option<i64>,
    pub(super) size: i32,
    pub(super) resolved_us: Option<Timestamp>,
}

impl From<PendingRow> for OpenRow {
    fn from(row: PendingRow) -> Self {
        let PendingRow { id, shard, attempt_limit, due_us, size } = row;
        Self {
            id,
            shard,
            status: Status::Pending,
            attempt: 0,
            attempt_limit,
            due_us,
            partition: None,
            sent_us: None,
            sent_offset: None,
            size,
            resolved_us: None,
        }
    }
}

impl From<SentRow> for OpenRow {
    fn from(row: SentRow) -> Self {
        let SentRow { id, shard, attempt, attempt_limit, partition, sent_us, sent_offset, size } =
            row;
        Self {
            id,
            shard,
            status: Status::Sent,
            attempt,
            attempt_limit,
            due_us: sent_us,
            partition: Some(partition),
            sent_us: Some(sent_us),
            sent_offset,
            size,
            resolved_us: None,
        }
    }
}

impl From<OpenRow> for SentRow {
    fn from(row: OpenRow) -> Self {
        let OpenRow { id, shard, attempt, attempt_limit, sent_offset, size, .. } = row;
        // What is SENT has both.
        let (partition, sent_us) =
            (row.partition.unwrap_or_default(), row.sent_us.unwrap_or_default());
        Self { id, shard, attempt, attempt_limit, partition, sent_us, sent_offset, size }
    }
}

impl From<FailedRow> for OpenRow {
    fn from(row: FailedRow) -> Self {
        let FailedRow { id, shard, status, attempt, attempt_limit, due_us, .. } = row;
        let FailedRow { partition, sent_us, sent_offset, size, resolved_us, .. } = row;
        Self {
            id,
            shard,
            status,
            attempt,
            attempt_limit,
            due_us,
            partition,
            sent_us,
            sent_offset,
            size,
            resolved_us,
        }
    }
}

impl From<OpenRow> for FailedRow {
    fn from(row: OpenRow) -> Self {
        let OpenRow { id, shard, status, attempt, attempt_limit, due_us, .. } = row;
        let OpenRow { partition, sent_us, sent_offset, size, resolved_us, .. } = row;
        Self {
            id,
            shard,
            status,
            attempt,
            attempt_limit,
            due_us,
            partition,
            sent_us,
            sent_offset,
            size,
            resolved_us,
        }
    }
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
    /// The consumer that it went wrong at, if it was one.
    pub consumer: Option<String>,
}

/// What one consumer said of an event, where more than one is asked.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = outbox_answer, treat_none_as_default_value = false)]
pub struct AnswerRow {
    /// The event.
    pub event_id: EventId,
    /// Who.
    pub consumer: String,
    /// What it said last.
    pub outcome: Said,
    /// Of which attempt.
    pub attempt: i32,
    /// How often it said FAILED.
    pub failures: i32,
    /// `applied`, `duplicate` or `superseded`.
    pub detail: Option<String>,
    /// The error of its newest failure.
    pub error: Option<String>,
    /// The version that its copy held afterwards.
    pub version: Option<i64>,
    /// What the answer carried, JSON.
    pub result: Option<String>,
    /// When it handled it, by its clock.
    pub processed_us: Timestamp,
}

impl AnswerRow {
    /// What `ack` says of an event of this kind: only a command can be answered no.
    pub(super) fn of(ack: Ack, kind: EventKind) -> Self {
        let outcome = match ack.outcome {
            Verdict::Success => Said::Success,
            Verdict::Rejected if kind == EventKind::Command => Said::Rejected,
            Verdict::Rejected | Verdict::Failed => Said::Failed,
        };
        Self {
            event_id: ack.event_id,
            consumer: ack.consumer,
            outcome,
            attempt: ack.attempt,
            failures: i32::from(outcome == Said::Failed),
            detail: ack.detail,
            error: ack.error,
            version: ack.version,
            result: ack.result.map(|result| result.get().to_owned()),
            processed_us: ack.processed_at,
        }
    }

    /// Whether nothing further is expected of this consumer.
    pub fn is_final(&self) -> bool {
        self.outcome != Said::Failed
    }
}
