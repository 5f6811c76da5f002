//! What a person does to an event that waits for one: retry it, or resolve it without an answer.
//!
//! TEMPORARY BODY: it only carries the routes and their tests until the outbox's own state function is here.

use diesel::prelude::*;
use thiserror::Error;

use super::model::{OpenRow, Status};
use crate::clock::Timestamp;
use crate::db::{Conn, DbError};
use crate::env::Env;
use crate::ids::EventId;
use crate::on;
use crate::schema::{alert, outbox_event, outbox_history, outbox_open};

/// Why an event was not changed.
#[derive(Debug, Error)]
pub enum OperateError {
    /// There is no such event.
    #[error("there is no event {0}")]
    Unknown(EventId),
    /// It does not wait for a person.
    #[error("event {id} is {}, and only an EXHAUSTED one waits for a person", status.name())]
    NotExhausted {
        /// Which.
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

/// Makes an EXHAUSTED event PENDING again with `more_attempts` more of them.
///
/// # Errors
/// When there is no such event, or it is not EXHAUSTED, or a statement fails.
pub fn retry(
    conn: &mut Conn,
    env: &Env,
    id: EventId,
    more_attempts: i32,
    by: &str,
    reason: Option<&str>,
) -> Result<OpenRow, OperateError> {
    let row = exhausted(conn, id)?;
    let now = env.now();
    let change = (
        outbox_open::status.eq(0_i16),
        outbox_open::attempt_limit.eq(row.attempt_limit.saturating_add(more_attempts)),
        outbox_open::due_us.eq(now),
        outbox_open::resolved_us.eq(None::<Timestamp>),
    );
    let row = on!(conn, c => diesel::update(outbox_open::table.find(id))
        .set(change)
        .returning(OpenRow::as_returning())
        .get_result(c))?;
    note(conn, &row, now, "RETRIED", by, reason)?;
    Ok(row)
}

/// Marks an EXHAUSTED event as dealt with by other means.
///
/// # Errors
/// When there is no such event, or it is not EXHAUSTED, or a statement fails.
pub fn resolve(
    conn: &mut Conn,
    env: &Env,
    id: EventId,
    by: &str,
    reason: &str,
) -> Result<OpenRow, OperateError> {
    exhausted(conn, id)?;
    let now = env.now();
    let row = on!(conn, c => diesel::update(outbox_open::table.find(id))
        .set(outbox_open::resolved_us.eq(now))
        .returning(OpenRow::as_returning())
        .get_result(c))?;
    note(conn, &row, now, "RESOLVED", by, Some(reason))?;
    Ok(row)
}

fn exhausted(conn: &mut Conn, id: EventId) -> Result<OpenRow, OperateError> {
    let open: Option<OpenRow> = on!(conn, c => outbox_open::table
        .find(id)
        .select(OpenRow::as_select())
        .first(c)
        .optional())?;
    let status = match open {
        Some(row) if row.status == 2 => return Ok(row),
        Some(row) if row.status == 1 => Status::Sent,
        Some(_) => Status::Pending,
        None => {
            let known: Option<EventId> = on!(conn, c => outbox_event::table
                .find(id)
                .select(outbox_event::id)
                .first(c)
                .optional())?;
            known.ok_or(OperateError::Unknown(id))?;
            Status::Processed
        }
    };
    Err(OperateError::NotExhausted { id, status })
}

fn note(
    conn: &mut Conn,
    row: &OpenRow,
    now: Timestamp,
    what: &str,
    by: &str,
    reason: Option<&str>,
) -> QueryResult<()> {
    let line = (
        outbox_history::event_id.eq(row.id),
        outbox_history::at_us.eq(now),
        outbox_history::attempt.eq(row.attempt),
        outbox_history::what.eq(what),
        outbox_history::error.eq(reason),
        outbox_history::by_whom.eq(by),
    );
    on!(conn, c => diesel::insert_into(outbox_history::table).values(line).execute(c))?;
    let open = alert::table.filter(alert::event_id.eq(row.id).and(alert::closed_us.is_null()));
    on!(conn, c => diesel::update(open)
        .set((alert::closed_us.eq(now), alert::closed_because.eq(what)))
        .execute(c))?;
    Ok(())
}
