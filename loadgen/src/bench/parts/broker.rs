//! The broker that a service is started on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use common::config::KafkaSettings;
use engine::kafka::EmbeddedBroker;
use stockloop_tests::kafka::KafkaBroker;

use crate::bench::block_on;
use crate::bench::options::{BrokerKind, Relay};
use crate::programs::OWNER;

/// Events of product-service.
pub(in crate::bench) const EVENTS: &str = "stockloop.inventory.v1";
/// The answers to them.
pub(in crate::bench) const ACKS: &str = "stockloop.inventory.acks.v1";
/// Events of order-service; here nobody sends any.
const ORDERS: &str = "stockloop.orders.v1";
/// The answers to those.
const ORDER_ACKS: &str = "stockloop.orders.acks.v1";
/// Messages that nobody reads.
const LIMIT: &str = "stockloop.limit.v1";
/// Of each topic, as a service makes it.
pub(in crate::bench) const PARTITIONS: i32 = 4;

/// No bound for bytes in flight.
const UNLIMITED: u64 = 1 << 40;

/// The topics of one loop.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Topics {
    pub(super) events: String,
    acks: String,
    orders: String,
    order_acks: String,
    /// For the limit of what goes to the others.
    pub(in crate::bench) limit: String,
}

impl Topics {
    fn numbered(number: u32) -> Self {
        let name = |name: &str| format!("{name}.{number}");
        Self {
            events: name(EVENTS),
            acks: name(ACKS),
            orders: name(ORDERS),
            order_acks: name(ORDER_ACKS),
            limit: name(LIMIT),
        }
    }

    /// What product-service is told.
    pub(in crate::bench) fn of_owner(&self) -> Vec<(&'static str, String)> {
        Self::settings([&self.events, &self.acks, &self.orders, &self.order_acks])
    }

    /// What order-service is told.
    pub(in crate::bench) fn of_copy(&self) -> Vec<(&'static str, String)> {
        Self::settings([&self.orders, &self.order_acks, &self.events, &self.acks])
    }

    /// What product-service is told so that it sends a backlog though nobody answers; each partition has room for `room` events.
    pub(in crate::bench) fn to_drain(
        &self,
        room: usize,
        relay: Relay,
    ) -> Vec<(&'static str, String)> {
        let mut settings = self.of_owner();
        settings.extend([
            relay.setting(),
            ("STOCKLOOP__OUTBOX__IN_FLIGHT_EVENTS", room.to_string()),
            ("STOCKLOOP__OUTBOX__IN_FLIGHT_BYTES", UNLIMITED.to_string()),
            // Nobody answers, and nobody is to be asked whether he will.
            ("STOCKLOOP__OUTBOX__ACK_TIMEOUT", "1h".to_owned()),
        ]);
        settings
    }

    fn settings(topics: [&String; 4]) -> Vec<(&'static str, String)> {
        let names = [
            "STOCKLOOP__KAFKA__OUTBOUND_TOPIC",
            "STOCKLOOP__KAFKA__OUTBOUND_ACK_TOPIC",
            "STOCKLOOP__KAFKA__INBOUND_TOPIC",
            "STOCKLOOP__KAFKA__INBOUND_ACK_TOPIC",
        ];
        names.into_iter().zip(topics.map(String::clone)).collect()
    }
}

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
            properties: BTreeMap::new(),
        }
    }
}
