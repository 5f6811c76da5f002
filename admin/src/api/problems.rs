//! What refusals of the engine are over HTTP.

use common::http::Problem;
use engine::alerts::AlertError;
use engine::outbox::OperateError;

use super::events::unknown;

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

/// The problem that a refused action on an event is; for `map_err`.
pub(crate) fn operate_problem(error: OperateError) -> Problem {
    match error {
        OperateError::Unknown(id) => unknown(id),
        OperateError::NotExhausted { id, status } => Problem::conflict(
            "not-exhausted",
            format!(
                "event {id} is {}; only an EXHAUSTED event can be retried or resolved",
                status.name()
            ),
        ),
        OperateError::Query(error) => error.into(),
        OperateError::Db(error) => error.into(),
    }
}
