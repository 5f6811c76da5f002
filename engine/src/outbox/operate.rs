//! What a person may do with an event that gave up.

use std::collections::{BTreeMap, HashSet};

use common::db::{Conn, DbError};
use common::event::Status;
use common::ids::EventId;
use diesel::QueryResult;
use thiserror::Error;

use super::advance::advance;
use super::append::Outbox;
use super::model::OpenRow;
use super::state::{Policy, Trigger};
use super::store;
use super::update::Update;

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
    act(conn, outbox, id, Trigger::Retried { more: more_attempts }, by, reason)
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
    act(conn, outbox, id, Trigger::Resolved, by, Some(reason))
}

/// What a person wants of many events at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorAction {
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
pub struct ActionOutcome {
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
    action: &OperatorAction,
    by: &str,
    reason: Option<&str>,
) -> QueryResult<ActionOutcome> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let mut open: BTreeMap<EventId, OpenRow> =
        store::lock(conn, &ids)?.into_iter().map(|(row, _)| (row.id, row)).collect();
    let known: HashSet<EventId> = missing(conn, &ids, &open)?;
    let mut all = ActionOutcome::default();
    for id in ids {
        match why_not(open.remove(&id).as_ref(), known.contains(&id), action) {
            None => all.done.push(id),
            Some(reason) => all.skipped.push((id, reason)),
        }
    }
    let trigger = match *action {
        OperatorAction::Retry { more_attempts } => Trigger::Retried { more: more_attempts },
        OperatorAction::Resolve => Trigger::Resolved,
    };
    let update = |id: &EventId| Update {
        error: reason.map(str::to_owned),
        by_whom: Some(by.to_owned()),
        ..Update::new(*id, trigger)
    };
    let updates: Vec<_> = all.done.iter().map(update).collect();
    if !updates.is_empty() {
        let policy = Policy::without_pause(outbox.listener().cloned());
        advance(conn, outbox.env(), &policy, updates)?;
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

fn why_not(row: Option<&OpenRow>, is_processed: bool, action: &OperatorAction) -> Option<String> {
    let status = match row {
        Some(row) => row.status,
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
    (resolved && *action == OperatorAction::Resolve).then(|| "it is resolved already".to_owned())
}

fn act(
    conn: &mut Conn,
    outbox: &Outbox,
    id: EventId,
    trigger: Trigger,
    by: &str,
    reason: Option<&str>,
) -> Result<OpenRow, OperateError> {
    let Some((row, _)) = store::lock(conn, &[id])?.into_iter().next() else {
        return Err(match store::facts(conn, id)? {
            Some(_) => OperateError::NotExhausted { id, status: Status::Processed },
            None => OperateError::Unknown(id),
        });
    };
    if row.status != Status::Exhausted {
        return Err(OperateError::NotExhausted { id, status: row.status });
    }
    let mut update = Update::new(id, trigger);
    update.error = reason.map(str::to_owned);
    update.by_whom = Some(by.to_owned());
    let policy = Policy::without_pause(outbox.listener().cloned());
    let advanced = advance(conn, outbox.env(), &policy, vec![update])?;
    Ok(advanced.rows.into_iter().next().unwrap_or(row))
}
