//! What a person may do with an event that gave up.

use std::collections::{BTreeMap, HashSet};

use common::db::{Conn, DbError};
use common::event::Status;
use common::ids::EventId;
use diesel::QueryResult;
use thiserror::Error;

use super::advance::{Occurrence, advance};
use super::append::Outbox;
use super::model::OpenRow;
use super::state::{Happening, Policy};
use super::store;

/// Why an action was refused.
#[derive(Debug, Error)]
pub enum OperateError {
    /// There is no such event.
    #[error("there is no event {0}")]
    Unknown(EventId),
    /// Only EXHAUSTED events wait for a person.
    #[error("the event {id} is {}; only EXHAUSTED events wait for a person", status.name())]
    NotExhausted {
        /// Which event.
        id: EventId,
        /// What it is.
        status: Status,
    },
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Sends an EXHAUSTED event again, with `more_attempts` on top of those it had.
///
/// The caller calls [`Outbox::wake`] once the transaction is committed.
///
/// # Errors
/// When there is no such event, or it is not EXHAUSTED.
pub fn retry(
    conn: &mut Conn,
    outbox: &Outbox,
    id: EventId,
    more_attempts: i32,
    by: &str,
    reason: Option<&str>,
) -> Result<OpenRow, OperateError> {
    act(conn, outbox, id, Happening::Retried { more: more_attempts }, by, reason)
}

/// Ends the waiting of an EXHAUSTED event by hand; it may still be retried, and a late answer still counts.
///
/// The caller calls [`Outbox::wake`] once the transaction is committed: a listener may have caused events.
///
/// # Errors
/// When there is no such event, or it is not EXHAUSTED.
pub fn resolve(
    conn: &mut Conn,
    outbox: &Outbox,
    id: EventId,
    by: &str,
    reason: &str,
) -> Result<OpenRow, OperateError> {
    act(conn, outbox, id, Happening::Resolved, by, Some(reason))
}

/// What a person wants of many events at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// As [`retry`].
    Retry {
        /// How many attempts on top of those they had.
        more_attempts: i32,
    },
    /// As [`resolve`].
    Resolve,
}

/// What became of many events: every one is in one of the two lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Those that were acted on.
    pub done: Vec<EventId>,
    /// Those that were left as they are, and why.
    pub skipped: Vec<(EventId, String)>,
}

/// Acts on those of `ids` (no id twice) that wait for a person, in one set-based step, and says why not on others.
///
/// The caller calls [`Outbox::wake`] once the transaction is committed.
///
/// # Errors
/// When a statement fails.
pub fn act_on_all(
    conn: &mut Conn,
    outbox: &Outbox,
    ids: &[EventId],
    deed: &Deed,
    by: &str,
    reason: Option<&str>,
) -> QueryResult<Done> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let mut open: BTreeMap<EventId, OpenRow> =
        store::lock(conn, &ids)?.into_iter().map(|(row, _)| (row.id, row)).collect();
    let known: HashSet<EventId> = missing(conn, &ids, &open)?;
    let mut all = Done::default();
    for id in ids {
        match why_not(open.remove(&id).as_ref(), known.contains(&id), deed) {
            None => all.done.push(id),
            Some(reason) => all.skipped.push((id, reason)),
        }
    }
    let happening = match *deed {
        Deed::Retry { more_attempts } => Happening::Retried { more: more_attempts },
        Deed::Resolve => Happening::Resolved,
    };
    let occurrence = |id: &EventId| Occurrence {
        error: reason.map(str::to_owned),
        by_whom: Some(by.to_owned()),
        ..Occurrence::new(*id, happening)
    };
    let occurrences: Vec<_> = all.done.iter().map(occurrence).collect();
    if !occurrences.is_empty() {
        let policy = Policy::without_pause(outbox.listener().cloned());
        advance(conn, outbox.env(), &policy, occurrences)?;
    }
    Ok(all)
}

/// Those of `ids` that are not open and yet known: they are PROCESSED.
fn missing(
    conn: &mut Conn,
    ids: &[EventId],
    open: &BTreeMap<EventId, OpenRow>,
) -> QueryResult<HashSet<EventId>> {
    let missing: Vec<EventId> = ids.iter().filter(|id| !open.contains_key(id)).copied().collect();
    match missing.is_empty() {
        true => Ok(HashSet::new()),
        false => store::settled_among(conn, &missing),
    }
}

fn why_not(row: Option<&OpenRow>, is_processed: bool, deed: &Deed) -> Option<String> {
    let status = match row {
        Some(row) => row.status(),
        None if is_processed => Status::Processed,
        None => return Some("there is no such event".to_owned()),
    };
    if status != Status::Exhausted {
        return Some(format!(
            "it is {}, and only EXHAUSTED events wait for a person",
            status.name()
        ));
    }
    let resolved = row.is_some_and(|row| row.resolved_us.is_some());
    (resolved && *deed == Deed::Resolve).then(|| "it is resolved already".to_owned())
}

fn act(
    conn: &mut Conn,
    outbox: &Outbox,
    id: EventId,
    happening: Happening,
    by: &str,
    reason: Option<&str>,
) -> Result<OpenRow, OperateError> {
    let Some((row, _)) = store::lock(conn, &[id])?.into_iter().next() else {
        return Err(match store::facts(conn, id)? {
            Some(_) => OperateError::NotExhausted { id, status: Status::Processed },
            None => OperateError::Unknown(id),
        });
    };
    if row.status() != Status::Exhausted {
        return Err(OperateError::NotExhausted { id, status: row.status() });
    }
    let mut occurrence = Occurrence::new(id, happening);
    occurrence.error = reason.map(str::to_owned);
    occurrence.by_whom = Some(by.to_owned());
    let policy = Policy::without_pause(outbox.listener().cloned());
    let advanced = advance(conn, outbox.env(), &policy, vec![occurrence])?;
    Ok(advanced.rows.into_iter().next().unwrap_or(row))
}
