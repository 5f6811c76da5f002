//! What happened to an event, attempt by attempt.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::Serialize;

use super::item::Found;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::EventId;
use crate::on;
use crate::outbox::Status;
use crate::schema::outbox_history;

/// Lines of one event's history at the most: the newest ones.
const MAX_LINES: i64 = 1_000;

/// One line of an event's history.
#[derive(Debug, Serialize)]
pub(super) struct HistoryEntry {
    /// The attempt that it is about.
    attempt: i32,
    /// When that attempt was sent, if it was.
    sent_at: Option<Timestamp>,
    /// What came of it, such as FAILED, OVERDUE, RETRIED or SUCCESS; SENT while no answer is there.
    outcome: String,
    /// When that was noted; none while no answer is there.
    at: Option<Timestamp>,
    detail: Option<String>,
    error: Option<String>,
    /// Why a person acted.
    reason: Option<String>,
    /// The person who acted, or the consumer that answered.
    by: Option<String>,
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
}

impl From<Line> for HistoryEntry {
    fn from(line: Line) -> Self {
        // A person's line carries the reason where others carry the error.
        let (error, reason) = match line.by_whom {
            Some(_) => (None, line.error),
            None => (line.error, None),
        };
        Self {
            attempt: line.attempt,
            sent_at: line.sent_us,
            outcome: line.what,
            at: Some(line.at_us),
            detail: None,
            error,
            reason,
            by: line.by_whom,
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
            reason: None,
            by: Some(settled.consumer.clone()),
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
        reason: None,
        by: None,
    })
}

/// The newest error of each of `ids` that has one; what people wrote is no error.
pub(super) fn last_errors(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<HashMap<EventId, String>> {
    use outbox_history::{by_whom, error, event_id, seq, what};
    let rows: Vec<(EventId, Option<String>)> = on!(conn, c => outbox_history::table
        .filter(event_id.eq_any(ids))
        .filter(by_whom.is_null())
        .filter(error.is_not_null().or(what.eq("OVERDUE")))
        .order(seq)
        .select((event_id, error))
        .load(c))?;
    // The later line of an event takes the place of the earlier one.
    let errors = rows.into_iter().map(|(id, message)| {
        let message = message.unwrap_or_else(|| "no answer came in time".to_owned());
        (id, message)
    });
    Ok(errors.collect())
}
