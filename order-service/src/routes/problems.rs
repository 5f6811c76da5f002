//! What refusals are over HTTP.

use std::time::Duration;

use common::http::{PartProblem, Problem};

use crate::orders::{CancelError, PlaceRefusal, WantedLine};

/// When to order again what has not arrived: a copy is filled in minutes, and each product comes at some time of those.
const UNTIL_FILLED: Duration = Duration::from_secs(5);

/// A refused order as a problem that names each of `lines` which stands in the way.
pub(super) fn place_problem(refusal: PlaceRefusal, lines: &[WantedLine]) -> Problem {
    let detail = refusal.to_string();
    let (refused, is_final) = match refusal {
        PlaceRefusal::NotAvailable(refused) => (refused, true),
        PlaceRefusal::Incomplete(refused) => (refused, false),
    };
    let of_line = |(place, line): (usize, &WantedLine)| {
        let refusal = refused.get(&line.sku)?;
        Some(PartProblem {
            field: format!("lines[{place}]"),
            reason: refusal.reason().name().to_owned(),
            detail: refusal.to_string(),
        })
    };
    let errors = lines.iter().enumerate().filter_map(of_line).collect();
    let problem = match is_final {
        true => Problem::conflict("not-available", detail),
        false => {
            let title = "The copy of the inventory is not complete yet";
            Problem::not_yet("copy-not-complete", title, detail, UNTIL_FILLED)
        }
    };
    problem.at("lines").with_errors(errors)
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Unknown(_) => Self::not_found(error.to_string()).at("id"),
            CancelError::Final { .. } => Self::conflict("not-cancellable", error.to_string()),
            CancelError::Query(error) => error.into(),
        }
    }
}
