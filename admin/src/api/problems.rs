//! What refusals of the engine are over HTTP.

use common::config::Settings;
use common::http::Problem;
use engine::alerts::AlertError;
use engine::bulk::CreateError;
use engine::outbox::OperateError;

use super::events::unknown;

/// The problem that a refusal is; for `map_err`.
pub(crate) fn alert_problem(error: AlertError) -> Problem {
    let detail = error.to_string();
    match error {
        AlertError::UnknownAlert(_) | AlertError::UnknownSilence(_) => Problem::not_found(detail),
        AlertError::Closed(_) => Problem::conflict("alert-closed", detail),
        AlertError::SilenceEndsInPast | AlertError::SilenceTooLong => {
            Problem::invalid("until", detail)
        }
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

/// The problem that a refused job is; for `map_err`.
pub(crate) fn job_problem(error: CreateError) -> Problem {
    let detail = error.to_string();
    match error {
        CreateError::Changed { .. } => Problem::conflict("preview-changed", detail),
        CreateError::PreviewOver(_) => Problem::conflict("preview-over", detail),
        CreateError::OtherSelection(_) => Problem::invalid("selection", detail),
        CreateError::Query(error) => error.into(),
    }
}

/// What a service says that is asked about what only an owner knows: the other one of the loop is the owner.
pub(crate) fn owns_nothing(settings: &Settings) -> Problem {
    let (service, owner) = (&settings.service.name, &settings.kafka.outbound_consumer);
    Problem::not_found(format!(
        "{service} owns nothing that could be verified or sent again; ask {owner}, whose states it has a copy of"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_refusal_about_alerts_is_its_own_problem() {
        let cases = [
            (AlertError::UnknownAlert(7), json!([404, "not-found", null])),
            (AlertError::UnknownSilence(7), json!([404, "not-found", null])),
            (AlertError::Closed(7), json!([409, "alert-closed", null])),
            (AlertError::SilenceEndsInPast, json!([422, "invalid", "until"])),
            (AlertError::SilenceTooLong, json!([422, "invalid", "until"])),
            (AlertError::TooManySilences(7), json!([409, "too-many-silences", null])),
            (AlertError::MailOff, json!([409, "mail-off", null])),
            (AlertError::NoRecipients, json!([409, "no-recipients", null])),
            (AlertError::TooManyRecipients(7), json!([422, "invalid", "to"])),
            (AlertError::WebhookOff, json!([409, "webhook-off", null])),
        ];
        for (refusal, expected) in cases {
            let text = refusal.to_string();
            let problem = serde_json::to_value(alert_problem(refusal)).unwrap();
            let name = problem["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap();
            assert_eq!(json!([problem["status"], name, problem["field"]]), expected, "{text}");
            assert_eq!(problem["detail"], text);
        }
    }
}
