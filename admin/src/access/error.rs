//! Why something about operators, sessions or tokens was refused.

use std::time::Duration;

use common::db::DbError;
use common::http::Problem;
use thiserror::Error;

/// Why somebody was not created, changed or admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// A name that is not allowed.
    #[error("a name has 1 to 64 letters, digits, dots, dashes, underscores or @")]
    InvalidName,
    /// Somebody has it.
    #[error("operator {0} already exists; choose another name")]
    NameTaken(String),
    /// Nobody has it.
    #[error("there is no operator {0:?}")]
    UnknownOperator(String),
    /// Nobody could create operators any more.
    #[error("{0} is the last admin; create another one first")]
    LastAdmin(String),
    /// Too short, or too long to be hashed in time.
    #[error("a password has 10 to 200 characters")]
    PasswordLength,
    /// The hash function failed.
    #[error("a password can't be hashed")]
    NotHashed,
    /// It does not say which of the two.
    #[error("the name or the password is wrong")]
    WrongCredentials,
    /// Too many sign-ins failed.
    #[error("too many sign-ins failed")]
    TooManyFailures {
        /// When to try again.
        wait: Duration,
    },
    /// A token, or nobody at all, has no password to change.
    #[error("only a signed-in operator has a password to change")]
    NoPassword,
    /// The password that was to be changed is another.
    #[error("this is not your current password")]
    WrongOldPassword,
    /// A one-time token that is wrong, too old or used.
    #[error(
        "this one-time token is no longer valid; while there is no operator, each start of the service prints a new one"
    )]
    SetupOver,
    /// It is missing what a token is for.
    #[error("say in 1 to 100 characters what the token is for")]
    TokenName,
    /// A token that would end before it begins.
    #[error("this time has passed; choose a later one")]
    TokenExpired,
    /// There is no such token.
    #[error("there is no token {0}")]
    UnknownToken(i64),
}

/// What can go wrong with operators, sessions and tokens.
#[derive(Debug, Error)]
pub enum AccessError {
    /// It was refused.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Denied(denied) => denied.into(),
            AccessError::Query(error) => error.into(),
            AccessError::Db(error) => error.into(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::InvalidName | Denied::TokenName => Self::invalid("name", detail),
            Denied::PasswordLength => Self::invalid("password", detail),
            Denied::WrongOldPassword => Self::invalid("old_password", detail),
            Denied::TokenExpired => Self::invalid("expires_at", detail),
            Denied::NameTaken(_) => Self::conflict("name-taken", detail),
            Denied::LastAdmin(_) => Self::conflict("last-admin", detail),
            Denied::NoPassword => Self::conflict("no-password", detail),
            Denied::UnknownOperator(_) | Denied::UnknownToken(_) => Self::not_found(detail),
            Denied::WrongCredentials | Denied::SetupOver => Self::unauthorized(detail),
            Denied::TooManyFailures { wait } => Self::too_many_requests(detail, wait),
            Denied::NotHashed => Self::internal(&detail),
        }
    }
}
