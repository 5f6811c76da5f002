//! Putting a job down: what it acts on is settled then, and is what was approved.

use common::db::Conn;
use diesel::result::Error;
use thiserror::Error;

use super::model::{self, NewJob};
use super::preview::{self, PREVIEW_VALID, keep_preview};
use super::selection::{Selection, matches};

/// Why a job is not put down; nothing is written.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The selection comes to another number of events than was approved.
    #[error("{now} events match now, and {expected} were expected; look at a new preview")]
    Changed {
        /// How many match.
        now: i64,
        /// How many were approved.
        expected: i64,
    },
    /// There is no such preview, or it is too old.
    #[error("the preview {0} is over; look at a new one")]
    PreviewOver(i64),
    /// The preview showed something else.
    #[error("the preview {0} is of another selection; send the selection that it was taken of")]
    OtherSelection(i64),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] Error),
}

/// Puts a job down and returns its number; the caller calls [`super::Bulk::wake`] once that is committed.
///
/// # Errors
/// Refused when it would act on anything else than was approved.
pub fn create(conn: &mut Conn, job: &NewJob) -> Result<i64, CreateError> {
    let preview = match job.preview {
        Some(seq) => {
            check_preview(conn, job, seq)?;
            Some(seq)
        }
        None => preview_now(conn, job)?,
    };
    Ok(model::insert(conn, &NewJob { preview, ..job.clone() })?)
}

fn check_preview(conn: &mut Conn, job: &NewJob, seq: i64) -> Result<(), CreateError> {
    let preview = preview::find(conn, seq)?
        .filter(|preview| preview.created_us.after(PREVIEW_VALID) >= job.created_us)
        .ok_or(CreateError::PreviewOver(seq))?;
    if preview.selection != job.selection {
        return Err(CreateError::OtherSelection(seq));
    }
    check_count(job, preview.matches)
}

/// Lists what matches now, for a job that was asked for without a preview.
fn preview_now(conn: &mut Conn, job: &NewJob) -> Result<Option<i64>, CreateError> {
    let selection: Selection = serde_json::from_str(&job.selection)
        .map_err(|error| Error::DeserializationError(Box::new(error)))?;
    let found = matches(conn, &selection, job.created_us)?;
    check_count(job, found.count())?;
    Ok(keep_preview(conn, &selection, &found, job.created_us)?)
}

fn check_count(job: &NewJob, now: i64) -> Result<(), CreateError> {
    match job.expected {
        expected if expected == now => Ok(()),
        expected => Err(CreateError::Changed { now, expected }),
    }
}
