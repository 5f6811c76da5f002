//! What can go wrong, and what to do next.

use std::fmt;
use std::process::ExitCode;

use common::http::Problem;
use thiserror::Error;

use super::table::printable;

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// Nothing listens there.
    #[error(
        "{base} can't be reached: {reason}\n  Is the service running there? Set its address with --url or {variable}."
    )]
    Unreachable { base: String, reason: String, variable: &'static str },
    /// The connection broke off, so it is not known how far the request went.
    #[error(
        "the connection to {base} broke off: {reason}\n  It is not known whether the action was done; `stockloop admin audit` lists what was done."
    )]
    ConnectionLost { base: String, reason: String },
    /// Something responds that is no Stockloop service.
    #[error("{base} responds with {status}, but not as a Stockloop service does: {text}")]
    NotStockloop { base: String, status: u16, text: String },
    /// The service refused the request.
    #[error("{}", ProblemText { problem, hint: hint.as_deref() })]
    Refused { problem: Box<Problem>, hint: Option<String> },
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
}

impl CommandError {
    /// Prints it on standard error, a refusal as the API's own JSON if programs read it; returns the exit code.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
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

struct ProblemText<'a> {
    problem: &'a Problem,
    hint: Option<&'a str>,
}

impl fmt::Display for ProblemText<'_> {
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
