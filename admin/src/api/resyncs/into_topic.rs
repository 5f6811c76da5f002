//! Whether kept states can be sent into another topic.

use common::config::KafkaSettings;
use common::http::{Problem, ProblemResult};
use engine::kafka::TopicError;

use super::super::Admin;

const FIELD: &str = "selection.kept.into";

/// The longest name of a topic that Kafka takes.
const LONGEST: usize = 249;

/// A topic that Kafka can have, and that is not its own, nor one of the loop, whose readers would take the states for
/// events.
fn checked_name(topic: &str, kafka: &KafkaSettings) -> ProblemResult<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if topic.len() > LONGEST || matches!(topic, "" | "." | "..") || !topic.bytes().all(legal) {
        let detail = format!(
            "a topic's name has 1 to {LONGEST} characters of A-Z, a-z, 0-9, `.`, `_` and `-`, and is not `.` or `..`"
        );
        return Err(Problem::invalid(FIELD, detail));
    }
    if topic.starts_with("__") {
        let detail =
            format!("{topic} begins with `__`, as topics of Kafka itself do; name another one");
        return Err(Problem::invalid(FIELD, detail));
    }
    let KafkaSettings {
        outbound_topic, outbound_ack_topic, inbound_topic, inbound_ack_topic, ..
    } = kafka;
    let of_the_loop = [outbound_topic, outbound_ack_topic, inbound_topic, inbound_ack_topic];
    match of_the_loop.into_iter().any(|one| one == topic) {
        true => Err(Problem::invalid(
            FIELD,
            format!(
                "{topic} is a topic of the loop, whose consumers would take the states for events; name another one, \
                 or replay for a consumer"
            ),
        )),
        false => Ok(()),
    }
}

/// A topic that is there: one of somebody else is not made in passing.
pub(super) async fn checked_topic(admin: &Admin, topic: Option<&str>) -> ProblemResult<()> {
    let Some(topic) = topic else { return Ok(()) };
    checked_name(topic, &admin.settings.kafka)?;
    let (producer, name) = (admin.producer.clone(), topic.to_owned());
    let asked = actix_web::web::block(move || producer.find(&name)).await;
    match asked.map_err(|error| Problem::internal(&error))? {
        Ok(_) => Ok(()),
        Err(error @ TopicError::Missing(_)) => {
            Err(Problem::invalid(FIELD, format!("{error}; make it first")))
        }
        Err(error @ TopicError::Refused(..)) => Err(Problem::invalid(
            FIELD,
            format!("{error}; give this service's user DESCRIBE and WRITE on it"),
        )),
        Err(error @ TopicError::Away(..)) => {
            Err(Problem::unavailable(format!("{error}; ask again once the broker is there")))
        }
    }
}
