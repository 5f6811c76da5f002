//! The way to Apache Kafka and back: envelopes, producer, consumer, topics, and an embedded broker.

mod ack;
mod client;
mod consumer;
mod embedded;
mod envelope;
#[cfg(test)]
mod fixture;
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
#[cfg(test)]
pub(crate) use fixture::{
    envelope_for_tests, received_for_tests, settings_for_tests, signing_for_tests,
};
pub use producer::{Message, Offset, Producer, SendError, TopicError};
pub use shape::{LookError, TopicLook, TopicUse, TopicWatch};
pub use signing::{BadSignature, SignatureChecks, Signing};
pub use topics::{ensure_compacted_topics, ensure_topics};
