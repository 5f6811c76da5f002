//! What happened to an event, attempt by attempt.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::item::Found;
use crate::bulk;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::EventId;
use crate::on;
use crate::outbox::{NO_ANSWER, Status, error_class};
use crate::schema::outbox_history;

/// Lines of one event's history at the most: the newest ones.
const MAX_LINES: i64 = 1_000;

/// One line of an event's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryEntry {
    /// The attempt that it is about.
    pub(crate) attempt: i32,
    /// When that attempt was sent, if it was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) sent_at: Option<Timestamp>,
    /// What came of it, such as FAILED, OVERDUE, RETRIED or SUCCESS; SENT while no answer is there.
    pub(crate) outcome: String,
    /// When that was noted; none while no answer is there.
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
    what: String,
    error: Option<String>,
    by_whom: Option<String>,
    class: Option<String>,
}

impl From<Line> for HistoryEntry {
    fn from(line: Line) -> Self {
        // A person's line carries the reason where others carry the error.
        let (error, reason) = match line.by_whom {
            Some(_) => (None, line.error),
            None => (line.error, None),
        };
        let late = || (line.what == "OVERDUE").then(|| NO_ANSWER.to_owned());
        let error_class = class_of(line.class, error.as_deref()).or_else(late);
        let (by, job) = line.by_whom.map(|by| bulk::actor(&by)).unzip();
        Self {
            attempt: line.attempt,
            sent_at: line.sent_us,
            outcome: line.what,
            at: Some(line.at_us),
            detail: None,
            error_class,
            error,
            reason,
            by,
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
            outcome: settled.outcome().to_owned(),
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

/// What went wrong last with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastError {
    pub(super) message: String,
    pub(super) class: String,
    pub(super) at: Timestamp,
}

/// The newest error of each of `ids` that has one; what people wrote is no error.
pub(super) fn last_errors(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<HashMap<EventId, LastError>> {
    use outbox_history as h;
    type Row = (EventId, i64, Timestamp, Option<String>, Option<String>);
    let mut rows: Vec<Row> = on!(conn, c => outbox_history::table
        .filter(h::event_id.eq_any(ids))
        .filter(h::by_whom.is_null())
        .filter(h::error.is_not_null().or(h::what.eq("OVERDUE")))
        .select((h::event_id, h::seq, h::at_us, h::error, h::class))
        .load(c))?;
    // The later line of an event takes the place of the earlier one. Sorted here, so that the events' index is used.
    rows.sort_unstable_by_key(|row| row.1);
    let errors = rows.into_iter().map(|(id, _, at, error, class)| {
        let class = class_of(class, error.as_deref()).unwrap_or_else(|| NO_ANSWER.to_owned());
        let message = error.unwrap_or_else(|| "no answer came in time".to_owned());
        (id, LastError { message, class, at })
    });
    Ok(errors.collect())
}

/// The class that was noted; lines from before classes were noted get theirs now.
fn class_of(noted: Option<String>, error: Option<&str>) -> Option<String> {
    noted.or_else(|| error.map(error_class))
}
