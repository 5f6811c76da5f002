//! Whose fault a database error is: the data's (one event has to answer for it), or the world's (try again).
//!
//! diesel keeps no SQLSTATE, so what may pass later (classes 08, 40, 53, 57) is told apart from errors of the data
//! (22, 23) by diesel's kind, and by the server's words where the kind is unknown.

use diesel::result::{DatabaseErrorKind, Error};

use super::DbError;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The data can't be stored: the same data fails again.
    Data,
    /// Connection, resources, deadlock, shutdown: the same work may pass later.
    Transient,
    /// Not known: repeat first, then look for a single event that fails alone.
    Unknown,
}

/// How PostgreSQL and SQLite word errors of class 22 (data exception), for which diesel has no kind.
const DATA_WORDS: [&str; 9] = [
    "out of range",
    "invalid input syntax",
    "value too long",
    "invalid byte sequence",
    "numeric field overflow",
    "unsupported unicode",
    "datatype mismatch",
    "too big",
    "integer overflow",
];

/// How the two word what passes by itself.
const TRANSIENT_WORDS: [&str; 12] = [
    "deadlock",
    "could not serialize",
    "locked",
    "busy",
    "too many",
    "no space",
    "disk",
    "out of memory",
    "terminating connection",
    "canceling statement",
    "shutting down",
    "starting up",
];

impl Fault {
    /// Judges an error of [`super::Db`].
    pub fn of(error: &DbError) -> Self {
        match error {
            DbError::Query(error) => Self::of_query(error),
            DbError::Unreachable { .. } | DbError::Unusable { .. } | DbError::Closed => {
                Self::Transient
            }
        }
    }

    /// Judges an error of a statement.
    pub fn of_query(error: &Error) -> Self {
        match error {
            Error::DatabaseError(kind, info) => Self::of_kind(kind, info.message()),
            Error::SerializationError(_) | Error::InvalidCString(_) => Self::Data,
            // What a row holds is not the fault of who asked for it: a newer release may have written it.
            Error::DeserializationError(_)
            | Error::BrokenTransactionManager
            | Error::RollbackErrorOnCommit { .. } => Self::Transient,
            _ => Self::Unknown,
        }
    }

    fn of_kind(kind: &DatabaseErrorKind, message: &str) -> Self {
        use DatabaseErrorKind as Kind;
        match kind {
            Kind::UniqueViolation
            | Kind::ForeignKeyViolation
            | Kind::NotNullViolation
            | Kind::CheckViolation
            | Kind::RestrictViolation
            | Kind::ExclusionViolation => Self::Data,
            Kind::SerializationFailure
            | Kind::ReadOnlyTransaction
            | Kind::ClosedConnection
            | Kind::UnableToSendCommand => Self::Transient,
            _ => Self::of_message(&message.to_lowercase()),
        }
    }

    fn of_message(message: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&DATA_WORDS) {
            Self::Data
        } else if says(&TRANSIENT_WORDS) {
            Self::Transient
        } else {
            Self::Unknown
        }
    }
}
