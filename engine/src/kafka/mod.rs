//! The way to Apache Kafka and back: envelopes, producer, consumer, topics, and an embedded broker.

mod ack;
mod client;
mod consumer;
mod embedded;
mod envelope;
mod membership;
mod producer;
mod shape;
mod topics;

pub(crate) use ack::cut_error;
pub use ack::{Ack, AckBatch, Verdict};
pub use client::KafkaError;
pub use consumer::{Consumer, Record};
pub use embedded::EmbeddedBroker;
pub use envelope::{Envelope, Sender, Unreadable, sender_of};
pub use producer::{Message, Offset, Producer, SendError, TopicError};
pub use shape::{TopicUse, TopicWatch};
pub use topics::{ensure_compacted_topics, ensure_topics};
