//! Why something about operators, sessions or tokens was refused.

use std::time::Duration;

use common::db::DbError;
use common::http::Problem;
use thiserror::Error;

/// Why somebody was not created, changed or admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
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
    InvalidSetupToken,
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
    Refused(#[from] Refused),
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
            AccessError::Refused(refused) => refused.into(),
            AccessError::Query(error) => error.into(),
            AccessError::Db(error) => error.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::InvalidName | Refused::TokenName => Self::invalid("name", detail),
            Refused::PasswordLength => Self::invalid("password", detail),
            Refused::WrongOldPassword => Self::invalid("old_password", detail),
            Refused::TokenExpired => Self::invalid("expires_at", detail),
            Refused::NameTaken(_) => Self::conflict("name-taken", detail),
            Refused::LastAdmin(_) => Self::conflict("last-admin", detail),
            Refused::NoPassword => Self::conflict("no-password", detail),
            Refused::UnknownOperator(_) | Refused::UnknownToken(_) => Self::not_found(detail),
            Refused::WrongCredentials | Refused::InvalidSetupToken => Self::unauthorized(detail),
            Refused::TooManyFailures { wait } => Self::too_many_requests(detail, wait),
            Refused::NotHashed => Self::internal(&detail),
        }
    }
}
