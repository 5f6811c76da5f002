//! The broker, and its topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::config::KafkaSettings;
use common::telemetry::BrokerState;
use engine::kafka::{EmbeddedBroker, Producer, ensure_topics};

use super::{Arguments, TOPIC};

/// The broker and how to reach it.
pub(super) struct Broker {
    pub(super) settings: KafkaSettings,
    embedded: Option<EmbeddedBroker>,
}

impl Broker {
    /// The one that was named, or a new one, with the topic.
    pub(super) async fn find(arguments: &Arguments) -> Result<Self> {
        let Arguments { partitions, .. } = *arguments;
        let (brokers, embedded) = match &arguments.brokers {
            Some(brokers) => (brokers.clone(), None),
            None => {
                let embedded = EmbeddedBroker::start()?;
                embedded.create_topic(TOPIC, partitions)?;
                (embedded.brokers(), Some(embedded))
            }
        };
        let settings = KafkaSettings {
            brokers,
            outbound_topic: TOPIC.to_owned(),
            outbound_ack_topic: String::new(),
            outbound_consumer: String::new(),
            inbound_topic: String::new(),
            inbound_ack_topic: String::new(),
            partitions,
            replication: -1,
            min_insync_replicas: -1,
            retention: Duration::from_secs(86_400),
            create_topics: true,
            properties: BTreeMap::new(),
        };
        if embedded.is_none() {
            ensure_topics(&settings, &[TOPIC], BrokerState::default()).await?;
        }
        let found = partitions_of(&settings).await?;
        ensure!(
            found == partitions,
            "the topic {TOPIC} has {found} partitions: delete it, or say --partitions {found}"
        );
        Ok(Self { settings, embedded })
    }

    pub(super) fn name(&self) -> &'static str {
        if self.embedded.is_some() { "the embedded broker" } else { "a real broker" }
    }
}

/// What the broker says of the topic, which it may have made only now.
async fn partitions_of(settings: &KafkaSettings) -> Result<i32> {
    let producer = Producer::new(settings, "relay-benchmark", BrokerState::default())?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let asked = producer.clone();
        let answer = tokio::task::spawn_blocking(move || asked.partitions(TOPIC)).await?;
        match answer {
            Ok(partitions) => return Ok(partitions),
            Err(reason) => ensure!(Instant::now() < deadline, "{reason}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
