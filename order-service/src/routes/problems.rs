//! What refusals are over HTTP.

use common::http::{PartProblem, Problem};

use crate::orders::{CancelError, PlaceError, WantedLine};

/// A refused order as a problem that names each of `lines` which stands in the way; for `map_err`.
pub(super) fn place_problem(error: PlaceError, lines: &[WantedLine]) -> Problem {
    let detail = error.to_string();
    let refused = match error {
        PlaceError::Query(error) => return error.into(),
        PlaceError::Refused(refused) => refused,
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
    Problem::conflict("not-available", detail).at("lines").with_errors(errors)
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
