//! What refusals about alerts are over HTTP.

use crate::alerts::AlertError;
use crate::http::Problem;

/// The problem that a refusal is; for `map_err`.
pub(crate) fn alert_problem(error: AlertError) -> Problem {
    let detail = error.to_string();
    match error {
        AlertError::UnknownAlert(_) | AlertError::UnknownSilence(_) => Problem::not_found(detail),
        AlertError::Closed(_) => Problem::conflict("alert-closed", detail),
        AlertError::SilenceOver | AlertError::SilenceTooLong => Problem::invalid("until", detail),
        AlertError::TooManySilences(_) => Problem::conflict("too-many-silences", detail),
        AlertError::MailOff => Problem::conflict("mail-off", detail),
        AlertError::NoRecipients => Problem::conflict("no-recipients", detail),
        AlertError::TooManyRecipients(_) => Problem::invalid("to", detail),
        AlertError::BadAddress { place, .. } => Problem::invalid(format!("to[{place}]"), detail),
        AlertError::WebhookOff => Problem::conflict("webhook-off", detail),
        AlertError::NotWritten(_) => Problem::internal(&detail),
        AlertError::Query(error) => error.into(),
        AlertError::Db(error) => error.into(),
    }
}
