//! An event's rows, read together: what was appended, whether it is still open, how it was settled, and its newest
//! error.

use std::collections::HashMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventFacts, Status};
use common::ids::EventId;
use common::on;
use common::schema::{outbox_event, outbox_history, outbox_open, outbox_settled};
use diesel::prelude::*;

use super::class::{NO_ANSWER, error_class};
use super::model::{AnswerRow, HistoryKind, OpenRow, SettledRow};
use crate::consumers::{Consumers, Voice};

/// An event's rows.
#[derive(Debug)]
pub struct Found {
    /// What was appended, without the payload.
    pub head: EventFacts,
    /// Its open row, unless it is PROCESSED.
    pub open: Option<OpenRow>,
    /// How it was settled, if it is PROCESSED.
    pub settled: Option<SettledRow>,
}

impl Found {
    /// The rows of `ids`, in their order; unknown ids are left out.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn load(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<Self>> {
        let heads: Vec<EventFacts> = on!(conn, c => outbox_event::table
            .filter(outbox_event::id.eq_any(ids))
            .select(EventFacts::as_select())
            .load(c))?;
        // Open before settled: an event that is settled in between is then seen in both, never in neither.
        let opens: Vec<OpenRow> = on!(conn, c => outbox_open::table
            .filter(outbox_open::id.eq_any(ids))
            .select(OpenRow::as_select())
            .load(c))?;
        let settlements: Vec<SettledRow> = on!(conn, c => outbox_settled::table
            .filter(outbox_settled::id.eq_any(ids))
            .select(SettledRow::as_select())
            .load(c))?;
        let mut heads: HashMap<_, _> = heads.into_iter().map(|row| (row.id, row)).collect();
        let mut opens: HashMap<_, _> = opens.into_iter().map(|row| (row.id, row)).collect();
        let mut settled: HashMap<_, _> = settlements.into_iter().map(|row| (row.id, row)).collect();
        let rows = ids.iter().filter_map(|id| {
            let head = heads.remove(id)?;
            let settled = settled.remove(id);
            let open = opens.remove(id).filter(|_| settled.is_none());
            Some(Self { head, open, settled })
        });
        Ok(rows.collect())
    }

    /// The one status that people know.
    pub fn status(&self) -> Status {
        self.open.as_ref().map_or(Status::Processed, |open| open.status)
    }

    /// The newest attempt that was counted.
    pub fn attempt(&self) -> i32 {
        let open = self.open.as_ref().map(|open| open.attempt);
        let settled = self.settled.as_ref().map(|settled| settled.attempt);
        open.or(settled).unwrap_or(0)
    }

    /// When a person or a newer version resolved it.
    pub fn resolved_at(&self) -> Option<Timestamp> {
        self.open.as_ref().and_then(|open| open.resolved_us)
    }
}

/// What went wrong last with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// What went wrong, in words.
    pub message: String,
    /// The class of that.
    pub class: String,
    /// When it was noted.
    pub at: Timestamp,
}

/// The newest error of each of `ids` that has one; what people wrote is no error.
///
/// # Errors
/// When the statement fails.
pub fn last_errors(conn: &mut Conn, ids: &[EventId]) -> QueryResult<HashMap<EventId, LastError>> {
    use outbox_history as h;
    type HistoryColumns = (EventId, i64, Timestamp, Option<String>, Option<String>);
    let mut rows: Vec<HistoryColumns> = on!(conn, c => outbox_history::table
        .filter(h::event_id.eq_any(ids))
        .filter(h::by_whom.is_null())
        .filter(h::error.is_not_null().or(h::what.eq(HistoryKind::Overdue)))
        .select((h::event_id, h::seq, h::at_us, h::error, h::class))
        .load(c))?;
    // The later line of an event takes the place of the earlier one. Sorted here, so that the events' index is used.
    rows.sort_unstable_by_key(|row| row.1);
    let errors = rows.into_iter().map(|(id, _, at, error, class)| {
        let class = class_or_now(class, error.as_deref()).unwrap_or_else(|| NO_ANSWER.to_owned());
        let message = error.unwrap_or_else(|| "no answer came in time".to_owned());
        (id, LastError { message, class, at })
    });
    Ok(errors.collect())
}

/// The class that was noted; lines from before classes were noted get theirs now.
pub fn class_or_now(noted: Option<String>, error: Option<&str>) -> Option<String> {
    noted.or_else(|| error.map(error_class))
}

/// What one of several consumers said of an event, or that it still owes an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerAnswer {
    /// Who.
    pub consumer: String,
    /// Whether the event waits, or waited, for it.
    pub required: bool,
    /// What it said; none: nothing yet.
    pub said: Option<AnswerRow>,
}

/// What consumers said of an event and who still owes an answer, where several are asked; nothing where one is.
///
/// # Errors
/// When a statement fails.
pub fn answers_of(conn: &mut Conn, found: &Found) -> QueryResult<Vec<ConsumerAnswer>> {
    let id = found.head.id;
    let consumers = Consumers::registered(conn)?;
    let mut said = super::store::answers(conn, &[id])?;
    said.sort_by(|one, other| one.consumer.cmp(&other.consumer));
    let owes = |name: &str| consumers.voice(name, id) == Voice::Counts;
    let mut answers: Vec<ConsumerAnswer> = said
        .into_iter()
        .map(|row| ConsumerAnswer {
            required: owes(&row.consumer),
            consumer: row.consumer.clone(),
            said: Some(row),
        })
        .collect();
    if found.open.is_some() && consumers.share_events() {
        let silent = consumers.asked_about(id);
        let missing: Vec<ConsumerAnswer> = silent
            .filter(|one| answers.iter().all(|answer| answer.consumer != one.name))
            .map(|one| ConsumerAnswer { consumer: one.name.clone(), required: true, said: None })
            .collect();
        answers.extend(missing);
    }
    Ok(answers)
}
