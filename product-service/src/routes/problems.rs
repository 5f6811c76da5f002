//! What refusals are over HTTP.

use common::http::Problem;

use crate::inventory::{ChangeError, ChangeRefusal, HistoryError};

impl From<&ChangeRefusal> for Problem {
    fn from(refusal: &ChangeRefusal) -> Self {
        let why = refusal.to_string();
        let problem = match refusal {
            ChangeRefusal::Unknown(_) | ChangeRefusal::Removed { .. } => Self::not_found(why),
            ChangeRefusal::InsufficientStock { .. } => Self::conflict("insufficient-stock", why),
            ChangeRefusal::Overflow { .. }
            | ChangeRefusal::TooFar { .. }
            | ChangeRefusal::Negative
            | ChangeRefusal::Name(_) => Self::invalid("", why),
            ChangeRefusal::Precondition(failed) => (*failed).into(),
        };
        match refusal.field() {
            Some(field) => problem.at(field),
            None => problem,
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => (&refusal).into(),
            ChangeError::Query(error) => error.into(),
            ChangeError::Raced => Self::unavailable(error.to_string()),
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let why = error.to_string();
        match error {
            HistoryError::Unknown(_) | HistoryError::Removed { .. } => {
                Self::not_found(why).at("sku")
            }
            HistoryError::NotYet { .. } => Self::not_found(why).at("version"),
            HistoryError::NotBorn { .. } => Self::not_found(why).at("at"),
            HistoryError::Gone { .. } => Self::gone("history-gone", why),
            HistoryError::Query(error) => error.into(),
        }
    }
}

/// A refused line of a batch as a problem of that line.
pub(super) fn problem_of_line(line: usize, refusal: &ChangeRefusal) -> Problem {
    let problem = Problem::from(refusal);
    match refusal.field() {
        Some(field) => problem.at(format!("lines[{line}].{field}")),
        None => problem.at(format!("lines[{line}]")),
    }
}
