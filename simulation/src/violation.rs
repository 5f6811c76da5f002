//! What was found not to hold.

use std::error::Error;

/// What was found not to hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The property, in one line.
    pub property: &'static str,
    /// What breaks it.
    pub detail: String,
}

/// Not a property of the loop.
pub(crate) const ITSELF: &str = "the simulation itself works";

impl Violation {
    pub(crate) fn of(property: &'static str, detail: impl Into<String>) -> Self {
        Self { property, detail: detail.into() }
    }
}

/// Something that the simulation needs does not work.
impl<E: Error> From<E> for Violation {
    fn from(error: E) -> Self {
        Self::of(ITSELF, error.to_string())
    }
}
