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
mod signing;
mod topics;

pub(crate) use ack::cut_error;
pub use ack::{Ack, AckBatch, Verdict};
pub use client::KafkaError;
pub use consumer::{BatchLimits, Consumer, Record};
pub use embedded::EmbeddedBroker;
pub use envelope::{Envelope, Sender, Unreadable, sender_of};
pub use producer::{Message, Offset, Producer, SendError, TopicError};
pub use shape::{LookError, TopicLook, TopicUse, TopicWatch};
pub use signing::{BadSignature, SignatureChecks, Signing};
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

/// Keys of a test, by which messages of this kind have to be signed.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn signing_for_tests(require: common::config::SignatureRequirement) -> Signing {
    let secret = "c2l4dHkgYnl0ZXMgdGhhdCBub2JvZHkgZWxzZSBrbm93cyE=".into();
    let keys = [("k1".to_owned(), secret)].into();
    let settings = common::config::SigningSettings { current: "k1".to_owned(), require, keys };
    Signing::new(&settings).unwrap()
}

/// `message` as it comes from the broker, with `signature`.
#[cfg(test)]
pub(crate) fn received_for_tests(message: &Message, signature: Option<String>) -> Record {
    let bytes =
        |(name, value): &(&'static str, String)| ((*name).to_owned(), value.clone().into_bytes());
    let mut headers: Vec<(String, Vec<u8>)> = message.headers.iter().map(bytes).collect();
    headers.extend(signature.map(|text| (signing::SIGNATURE.to_owned(), text.into_bytes())));
    Record {
        topic: message.topic.clone(),
        key: Some(message.key.clone().into_bytes()),
        headers,
        payload: Some(message.payload.clone()),
        ..Record::default()
    }
}
