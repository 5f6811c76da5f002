//! The broker that a service is started on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use common::config::KafkaSettings;
use engine::kafka::EmbeddedBroker;
use stockloop_tests::kafka::KafkaBroker;

use super::block_on;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BrokerKind {
    /// In memory, inside this process: it takes the least of the processors
    Embedded,
    /// Apache Kafka, of one node; needs a JDK 17, and Maven to fetch it once
    Kafka,
}

/// Events of product-service.
const EVENTS: &str = "stockloop.inventory.v1";
/// The answers to them.
const ACKS: &str = "stockloop.inventory.acks.v1";
/// Events of order-service; here nobody sends any.
const ORDERS: &str = "stockloop.orders.v1";
/// The answers to those.
const ORDER_ACKS: &str = "stockloop.orders.acks.v1";
/// Who sends the events.
const OWNER: &str = "product-service";
/// Whose answers it waits for.
pub(super) const CONSUMER: &str = "order-service";
/// Of each topic, as a service makes it.
const PARTITIONS: i32 = 4;

/// A broker with the topics of a product-service that keeps its ordinary settings.
pub(super) enum Broker {
    Embedded(EmbeddedBroker),
    Kafka(Box<KafkaBroker>),
}

impl Broker {
    /// Starts one, which ends with this value.
    pub(super) fn start(kind: BrokerKind) -> Result<Self> {
        let topics = [EVENTS, ACKS, ORDERS, ORDER_ACKS];
        match kind {
            BrokerKind::Embedded => {
                let broker = EmbeddedBroker::start()?;
                topics.iter().try_for_each(|topic| broker.create_topic(topic, PARTITIONS))?;
                Ok(Self::Embedded(broker))
            }
            BrokerKind::Kafka => {
                let broker = KafkaBroker::start_private()?;
                block_on(broker.create_topics(&topics, PARTITIONS))?;
                Ok(Self::Kafka(Box::new(broker)))
            }
        }
    }

    /// Where it listens.
    pub(super) fn brokers(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.brokers(),
            Self::Kafka(broker) => broker.brokers(),
        }
    }

    /// What order-service, or whoever stands in for it, is told.
    pub(super) fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.brokers(),
            outbound_topic: ORDERS.to_owned(),
            outbound_ack_topic: ORDER_ACKS.to_owned(),
            outbound_consumer: OWNER.to_owned(),
            inbound_topic: EVENTS.to_owned(),
            inbound_ack_topic: ACKS.to_owned(),
            partitions: PARTITIONS,
            replication: -1,
            min_insync_replicas: -1,
            retention: Duration::from_secs(7 * 86_400),
            create_topics: false,
            properties: BTreeMap::new(),
        }
    }
}
