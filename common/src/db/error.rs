//! What can go wrong between the program and its database.

use thiserror::Error;

use super::{Fault, pooler};

/// What can go wrong between the program and its database.
#[derive(Debug, Error)]
pub enum DbError {
    /// No connection could be had.
    #[error(
        "the database {location} can't be reached: {reason}; check that it runs and that the URL, user and password are right"
    )]
    Unreachable {
        /// The URL without its password.
        location: String,
        /// What the driver said.
        reason: String,
    },
    /// It is there, but can't be used as it is.
    #[error("the database {location} can't be used: {reason}")]
    Unusable {
        /// The URL without its password.
        location: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Query(diesel::result::Error),
    /// A statement met a session that others use, too.
    #[error(
        "a pooler in transaction mode seems to stand between this program and its database, and nobody said so: set database.pooler = \"transaction\" (STOCKLOOP__DATABASE__POOLER), or connect directly or in session mode ({0})"
    )]
    Pooler(diesel::result::Error),
    /// All connections are in use, and too many wait for one already.
    #[error(
        "all connections to the database are in use; try again shortly, or raise database.pool_size or database.loop_pool_size"
    )]
    Busy,
    /// It was to be committed, and nobody said whether it was.
    #[error("whether a transaction was committed is not known: {reason}")]
    NotKnown {
        /// Whose fault it is.
        fault: Fault,
        /// What came instead of an answer.
        reason: String,
    },
    /// The program has a flaw: it panicked in the middle.
    #[error(
        "the work broke off because of a flaw in this program, and nothing of it was written; its log says where"
    )]
    Panicked,
    /// The program is stopping and takes no more work.
    #[error("the database is closed, since the program is stopping")]
    Closed,
}

impl From<diesel::result::Error> for DbError {
    fn from(error: diesel::result::Error) -> Self {
        match sqlstate::of(&error) {
            Some(code) if pooler::FOREIGN_SESSION.contains(&code) => Self::Pooler(error),
            _ => Self::Query(error),
        }
    }
}
