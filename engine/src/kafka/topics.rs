//! Topics are made at start, where that is wanted and they are missing.

use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::BrokerState;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{self, Context, KafkaError};

/// Makes those of `names` that are missing.
///
/// # Errors
/// When the broker can't be reached or refuses; it may be tried again.
pub async fn ensure_topics(
    settings: &KafkaSettings,
    names: &[&str],
    broker: BrokerState,
) -> Result<(), KafkaError> {
    let config = client::with_properties(client::base(settings, "stockloop-topics"), settings);
    let admin: AdminClient<Context> = config
        .create_with_context(Context { broker: broker.clone() })
        .map_err(KafkaError::during("the topics can't be made"))?;
    let topic = |name| {
        NewTopic::new(name, settings.partitions, TopicReplication::Fixed(settings.replication))
    };
    let topics: Vec<_> = names.iter().copied().map(topic).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
    let made = admin
        .create_topics(&topics, &options)
        .await
        .map_err(KafkaError::during("the topics can't be made"))?;
    broker.up();
    for outcome in made {
        match outcome {
            Ok(name) => tracing::info!(topic = name, "made a topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                let source = rdkafka::error::KafkaError::AdminOp(code);
                return Err(KafkaError { what: format!("the topic {name} can't be made"), source });
            }
        }
    }
    Ok(())
}
