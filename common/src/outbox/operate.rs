//! What a person may do with an event that gave up.

use thiserror::Error;

use super::advance::{Occurrence, advance};
use super::append::Outbox;
use super::model::{OpenRow, Status};
use super::state::{Happening, Policy};
use super::store;
use crate::db::{Conn, DbError};
use crate::ids::EventId;

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
