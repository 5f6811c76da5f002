//! The broker that a service is started on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use common::config::KafkaSettings;
use engine::kafka::EmbeddedBroker;
use stockloop_tests::kafka::KafkaBroker;

use super::topics::{PARTITIONS, Topics};
use crate::bench::block_on;
use crate::bench::options::BrokerKind;
use crate::programs::OWNER;
use crate::topics::{ACKS, EVENTS, ORDER_ACKS, ORDERS};

/// A broker with the topics of a product-service that keeps its ordinary settings.
pub(in crate::bench) struct Broker {
    started: Started,
    /// How many times it was asked for new topics.
    made: Cell<u32>,
}

enum Started {
    Embedded(EmbeddedBroker),
    Kafka(Box<KafkaBroker>),
}

impl Broker {
    /// Starts one, which ends with this value.
    pub(in crate::bench) fn start(kind: BrokerKind) -> Result<Self> {
        let started = match kind {
            BrokerKind::Embedded => Started::Embedded(EmbeddedBroker::start()?),
            BrokerKind::Kafka => Started::Kafka(Box::new(KafkaBroker::start_private()?)),
        };
        let broker = Self { started, made: Cell::new(0) };
        broker.create(&[EVENTS, ACKS, ORDERS, ORDER_ACKS])?;
        Ok(broker)
    }

    /// New topics, with no message and no reader yet.
    pub(in crate::bench) fn new_topics(&self) -> Result<Topics> {
        self.made.set(self.made.get() + 1);
        let topics = Topics::numbered(self.made.get());
        let Topics { events, acks, orders, order_acks, limit } = &topics;
        self.create(&[events, acks, orders, order_acks, limit])?;
        Ok(topics)
    }

    fn create(&self, topics: &[&str]) -> Result<()> {
        match &self.started {
            Started::Embedded(broker) => {
                topics.iter().try_for_each(|topic| broker.create_topic(topic, PARTITIONS))?;
                Ok(())
            }
            Started::Kafka(broker) => block_on(broker.create_topics(topics, PARTITIONS)),
        }
    }

    /// Where it listens.
    pub(in crate::bench) fn brokers(&self) -> String {
        match &self.started {
            Started::Embedded(broker) => broker.brokers(),
            Started::Kafka(broker) => broker.brokers(),
        }
    }

    /// What its consumers are told besides.
    pub(in crate::bench) fn properties(&self) -> BTreeMap<String, String> {
        match &self.started {
            Started::Embedded(_) => EmbeddedBroker::properties(),
            Started::Kafka(_) => BTreeMap::new(),
        }
    }

    /// What order-service, or whoever stands in for it, is told.
    pub(in crate::bench) fn settings(&self) -> KafkaSettings {
        self.settings_of(EVENTS, ACKS)
    }

    /// What somebody is told who reads the events of `topics`, or sends to them.
    pub(in crate::bench) fn settings_for(&self, topics: &Topics) -> KafkaSettings {
        self.settings_of(&topics.events, &topics.acks)
    }

    fn settings_of(&self, events: &str, acks: &str) -> KafkaSettings {
        KafkaSettings {
            brokers: self.brokers(),
            outbound_topic: ORDERS.to_owned(),
            outbound_ack_topic: ORDER_ACKS.to_owned(),
            outbound_consumer: OWNER.to_owned(),
            inbound_topic: events.to_owned(),
            inbound_ack_topic: acks.to_owned(),
            partitions: PARTITIONS,
            replication: -1,
            min_insync_replicas: -1,
            retention: Duration::from_secs(7 * 86_400),
            create_topics: false,
            properties: self.properties(),
        }
    }
}
