//! The way to Apache Kafka and back: envelopes, producer, consumer, topics, and an embedded broker.

mod ack;
mod client;
mod consumer;
mod embedded;
mod envelope;
#[cfg(test)]
pub(crate) mod hostile;
mod membership;
mod producer;
mod shape;
mod topics;

pub(crate) use ack::cut_error;
pub use ack::{Ack, AckBatch, Verdict};
pub use client::KafkaError;
pub use consumer::{BatchLimits, Consumer, Record};
pub use embedded::EmbeddedBroker;
pub use envelope::{Envelope, Sender, Unreadable, sender_of};
pub use producer::{Message, Offset, Producer, SendError, TopicError};
pub use shape::{LookError, TopicLook, TopicUse, TopicWatch};
pub use topics::{ensure_compacted_topics, ensure_topics};

/// What a test's service is told of its broker: it sends to `topic`, which is there.
#[cfg(test)]
pub(crate) fn settings_for_tests(
    brokers: String,
    topic: &str,
    partitions: i32,
) -> common::config::KafkaSettings {
    common::config::KafkaSettings {
        brokers,
        outbound_topic: topic.to_owned(),
        outbound_ack_topic: "acks".to_owned(),
        outbound_consumer: "order-service".to_owned(),
        inbound_topic: String::new(),
        inbound_ack_topic: String::new(),
        partitions,
        replication: 1,
        min_insync_replicas: -1,
        retention: std::time::Duration::from_secs(86_400),
        create_topics: false,
        properties: std::collections::BTreeMap::new(),
    }
}
