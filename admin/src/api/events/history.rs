//! What happened to an event, attempt by attempt.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::on;
use common::schema::outbox_history;
use diesel::prelude::*;
use engine::bulk;
use engine::outbox::{Found, HistoryKind, NO_ANSWER, class_or_now};
use serde::Serialize;
use utoipa::ToSchema;

/// At most this many lines of one event's history: the newest.
const MAX_LINES: i64 = 1_000;

/// One line of an event's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryEntry {
    /// The attempt that it is about.
    pub(crate) attempt: i32,
    /// When that attempt was sent, if it was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) sent_at: Option<Timestamp>,
    /// Its outcome, such as FAILED, OVERDUE, RETRIED or SUCCESS; SENT while there is no answer.
    pub(crate) outcome: String,
    /// When that was noted; none while there is no answer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) at: Option<Timestamp>,
    pub(crate) detail: Option<String>,
    pub(crate) error: Option<String>,
    /// The class of the error.
    pub(crate) error_class: Option<String>,
    /// Why a person acted.
    pub(crate) reason: Option<String>,
    /// The person who acted, or the consumer that answered.
    pub(crate) by: Option<String>,
    /// The bulk job by which that person acted.
    pub(crate) job: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = outbox_history)]
struct Line {
    at_us: Timestamp,
    attempt: i32,
    sent_us: Option<Timestamp>,
    what: HistoryKind,
    error: Option<String>,
    by_whom: Option<String>,
    class: Option<String>,
    consumer: Option<String>,
}

impl From<Line> for HistoryEntry {
    fn from(line: Line) -> Self {
        // A person's line carries the reason where others carry the error.
        let (error, reason) = match line.by_whom {
            Some(_) => (None, line.error),
            None => (line.error, None),
        };
        let late = || (line.what == HistoryKind::Overdue).then(|| NO_ANSWER.to_owned());
        let error_class = class_or_now(line.class, error.as_deref()).or_else(late);
        let (by, job) = line.by_whom.map(|by| bulk::actor(&by)).unzip();
        Self {
            attempt: line.attempt,
            sent_at: line.sent_us,
            outcome: line.what.name().to_owned(),
            at: Some(line.at_us),
            detail: None,
            error_class,
            error,
            reason,
            by: by.or(line.consumer),
            job: job.flatten(),
        }
    }
}

/// The history of `found`, oldest first, with its settlement or the attempt that waits for an answer last.
pub(super) fn of(conn: &mut Conn, found: &Found) -> QueryResult<Vec<HistoryEntry>> {
    let mut lines: Vec<Line> = on!(conn, c => outbox_history::table
        .filter(outbox_history::event_id.eq(found.head.id))
        .order(outbox_history::seq.desc())
        .limit(MAX_LINES)
        .select(Line::as_select())
        .load(c))?;
    lines.reverse();
    let mut history: Vec<HistoryEntry> = lines.into_iter().map(HistoryEntry::from).collect();
    history.extend(last(found));
    Ok(history)
}

fn last(found: &Found) -> Option<HistoryEntry> {
    if let Some(settled) = &found.settled {
        return Some(HistoryEntry {
            attempt: settled.attempt,
            sent_at: settled.sent_us,
            outcome: settled.outcome.name().to_owned(),
            at: Some(settled.settled_us),
            detail: settled.detail.clone(),
            error: None,
            error_class: None,
            reason: None,
            by: Some(settled.consumer.clone()),
            job: None,
        });
    }
    let waiting = found.open.as_ref().filter(|_| found.status() == Status::Sent)?;
    Some(HistoryEntry {
        attempt: waiting.attempt,
        sent_at: waiting.sent_us,
        outcome: Status::Sent.name().to_owned(),
        at: None,
        detail: None,
        error: None,
        error_class: None,
        reason: None,
        by: None,
        job: None,
    })
}
