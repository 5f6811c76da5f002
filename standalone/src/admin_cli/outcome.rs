//! How a command ends, and its exit code.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was asked.
    Done,
    /// Nothing was done: the answer was no, or a job was cancelled.
    NotDone,
    /// A job has ended, and skipped some of its events or keys; or an import has, and some of its lines were refused.
    PartlyDone,
    /// A copy does not have what its source has.
    Different,
    /// It could not be found out whether it has.
    Unknown,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::NotDone => Self::FAILURE,
            Outcome::PartlyDone | Outcome::Different => Self::from(3),
            Outcome::Unknown => Self::from(4),
        }
    }
}
