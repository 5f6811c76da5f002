//! What was found not to hold.

use std::fmt;

use common::db::DbError;
use diesel::result::Error;

/// What was found not to hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The property, in one line.
    pub property: &'static str,
    /// What breaks it.
    pub detail: String,
}

/// Not a property of the loop.
const ITSELF: &str = "the simulation itself works";

impl Violation {
    pub(crate) fn of(property: &'static str, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }

    /// Something that the simulation needs does not work.
    pub(crate) fn of_itself(why: impl fmt::Display) -> Self {
        Self::of(ITSELF, why.to_string())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "does not hold: {}\n{}", self.property, self.detail)
    }
}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self::of_itself(error)
    }
}

impl From<DbError> for Violation {
    fn from(error: DbError) -> Self {
        Self::of_itself(error)
    }
}
