//! What the broker says of a topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, ConfigResource};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode;

use super::LookError;
use crate::kafka::client::Context;

/// How long the broker may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What a topic looks like.
#[derive(Default)]
pub(super) struct Found {
    pub(super) partitions: usize,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    /// What is set on it.
    pub(super) settings: BTreeMap<String, String>,
    /// Why that is not known.
    pub(super) unseen: Option<String>,
    /// Why it can't be looked at.
    pub(super) refused: Option<String>,
}

impl Found {
    /// Whether there is no such topic, rather than one that can't be looked at.
    pub(super) fn is_missing(&self) -> bool {
        self.partitions == 0 && self.refused.is_none()
    }
}

/// Asks for the shape of `topic`, not for what is set on it; blocks for at most [`PATIENCE`].
pub(super) fn look_up(admin: &AdminClient<Context>, topic: &str) -> Result<Found, LookError> {
    let found = admin.inner().fetch_metadata(Some(topic), PATIENCE);
    let metadata: Metadata =
        found.map_err(|source| LookError::Unanswered { topic: topic.to_owned(), source })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let refused = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
    match (found, refused) {
        (None, _) => Ok(Found::default()),
        (_, Some(code)) => refusal(topic, code),
        (Some(found), None) => {
            let partitions = found.partitions();
            let replicas = partitions.iter().map(|one| one.replicas().len()).min().unwrap_or(0);
            Ok(Found { partitions: partitions.len(), replicas, ..Found::default() })
        }
    }
}

/// What it means that the broker answers with `code` instead of the topic's shape.
pub(super) fn refusal(topic: &str, code: RDKafkaErrorCode) -> Result<Found, LookError> {
    use RDKafkaErrorCode as Code;
    let advice = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => return Ok(Found::default()),
        Code::LeaderNotAvailable => return Err(LookError::Leaderless(topic.to_owned())),
        Code::TopicAuthorizationFailed => "allow DESCRIBE on it",
        _ => "look for the error among those of Apache Kafka",
    };
    let refused = Some(format!("it can't be looked at: {code}; {advice}"));
    Ok(Found { refused, ..Found::default() })
}

/// What is set on a topic.
pub(super) fn settings(resource: ConfigResource) -> BTreeMap<String, String> {
    resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// What it means that the broker answers with `code` instead of a topic's settings.
pub(super) fn why_unseen(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => "allow DESCRIBE_CONFIGS on it".to_owned(),
        code => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_may_not_be_seen_are_told_with_what_to_do() {
        let why = why_unseen(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(why.contains("allow DESCRIBE_CONFIGS"), "{why}");
        let why = why_unseen(RDKafkaErrorCode::RequestTimedOut);
        assert!(!why.contains("allow"), "{why}");
    }
}
