//! What can go wrong, and what to do next.

use std::fmt;
use std::process::ExitCode;

use common::http::Problem;
use thiserror::Error;

use super::table::printable;

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// Nothing answers there.
    #[error(
        "{base} can't be reached: {reason}\n  Is the service running there? Say where it is with --url, or with {variable}."
    )]
    Unreachable { base: String, reason: String, variable: &'static str },
    /// The connection broke off, so that nobody knows how far it went.
    #[error(
        "{base} broke off: {reason}\n  Whether it was done is not known; `stockloop admin audit` tells what was done."
    )]
    BrokenOff { base: String, reason: String },
    /// Something answers that is no Stockloop.
    #[error("{base} answers {status}, but not as a Stockloop service does: {said}")]
    Foreign { base: String, status: u16, said: String },
    /// The service says no.
    #[error("{}", Refusal { problem, hint: hint.as_deref() })]
    Refused { problem: Box<Problem>, hint: Option<String> },
    /// The command line asks for what can't be.
    #[error("{0}")]
    Usage(String),
}

impl Fault {
    /// Tells it on standard error, as the API's own JSON if programs are listening.
    pub(super) fn tell(&self, json: bool) -> ExitCode {
        match self {
            Self::Refused { problem, .. } if json => {
                eprintln!("{}", serde_json::to_string(problem).unwrap_or_default());
            }
            _ => eprintln!("stockloop: {self}"),
        }
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

struct Refusal<'a> {
    problem: &'a Problem,
    hint: Option<&'a str>,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, status, detail, field, errors, .. } = self.problem;
        write!(f, "{} ({status}): {}", printable(title), printable(detail))?;
        if let Some(field) = field {
            write!(f, " ({})", printable(field))?;
        }
        for part in errors {
            write!(f, "\n  {}: {}", printable(&part.field), printable(&part.detail))?;
        }
        match self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}
