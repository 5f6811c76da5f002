//! Topics are made at start, where that is wanted and they are missing.

use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::BrokerState;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{self, Context, KafkaError};

/// The only policy under which a reader that is late misses nothing: compaction deletes what nobody has read yet.
pub(super) const CLEANUP_POLICY: &str = "delete";

/// Makes those of `names` that are missing; returns which were made.
///
/// # Errors
/// When the broker can't be reached or refuses; it may be tried again.
pub async fn ensure_topics(
    settings: &KafkaSettings,
    names: &[&str],
    broker: BrokerState,
) -> Result<Vec<String>, KafkaError> {
    make(settings, names, configuration(settings), broker).await
}

/// The same for topics that keep the last message of each key for good, as those of views are.
///
/// # Errors
/// As [`ensure_topics`].
pub async fn ensure_compacted_topics(
    settings: &KafkaSettings,
    names: &[&str],
    broker: BrokerState,
) -> Result<Vec<String>, KafkaError> {
    let mut configured = vec![("cleanup.policy", "compact".to_owned())];
    configured.extend(min_insync_replicas(settings));
    make(settings, names, configured, broker).await
}

async fn make(
    settings: &KafkaSettings,
    names: &[&str],
    configured: Vec<(&'static str, String)>,
    broker: BrokerState,
) -> Result<Vec<String>, KafkaError> {
    let config = client::with_properties(client::base(settings, "stockloop-topics"), settings);
    let admin: AdminClient<Context> = config
        .create_with_context(Context { broker: broker.clone() })
        .map_err(KafkaError::during("the topics can't be made"))?;
    let topic = |name| {
        let replication = TopicReplication::Fixed(settings.replication);
        let topic = NewTopic::new(name, settings.partitions, replication);
        configured.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
    };
    let topics: Vec<_> = names.iter().copied().map(topic).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
    let outcomes = admin
        .create_topics(&topics, &options)
        .await
        .map_err(KafkaError::during("the topics can't be made"))?;
    broker.up();
    let mut made = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(name) => {
                tracing::info!(topic = name, "made a topic");
                made.push(name);
            }
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let source = rdkafka::error::KafkaError::AdminOp(code);
                return Err(KafkaError { what: format!("the topic {name} can't be made"), source });
            }
        }
    }
    Ok(made)
}

/// What is set on each topic that is made; all else is the broker's default.
fn configuration(settings: &KafkaSettings) -> Vec<(&'static str, String)> {
    let mut configured = vec![
        ("cleanup.policy", CLEANUP_POLICY.to_owned()),
        ("retention.ms", settings.retention.as_millis().to_string()),
        ("retention.bytes", "-1".to_owned()),
    ];
    configured.extend(min_insync_replicas(settings));
    configured
}

fn min_insync_replicas(settings: &KafkaSettings) -> Option<(&'static str, String)> {
    let replicas = settings.min_insync_replicas;
    (replicas > 0).then(|| ("min.insync.replicas", replicas.to_string()))
}
