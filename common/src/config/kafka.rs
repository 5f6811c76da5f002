//! The broker and its topics, and who reads and writes them beside the two services.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secrets::{redacted, redacted_values};

/// The broker and the topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The topic that this service's events go to.
    pub outbound_topic: String,
    /// The topic that the answers to them come from.
    pub outbound_ack_topic: String,
    /// The service whose answers count.
    pub outbound_consumer: String,
    /// The topic that the other service's events come from.
    pub inbound_topic: String,
    /// The topic that the answers to them go to.
    pub inbound_ack_topic: String,
    /// Partitions of topics that are made at start.
    pub partitions: i32,
    /// Replicas of topics that are made at start; -1 takes the broker's default.
    pub replication: i32,
    /// Replicas that must have a message before it counts as sent (`min.insync.replicas` of topics); -1 takes the
    /// broker's default.
    pub min_insync_replicas: i32,
    /// How long topics that are made at start keep messages (`retention.ms`), and all topics have to at the least: no reader
    /// may be away for longer.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// Whether missing topics are made at start.
    pub create_topics: bool,
    /// Further librdkafka properties, such as `security.protocol` or `sasl.password`; printed hidden. An
    /// underscore stands for a dot, for the environment's sake.
    #[serde(serialize_with = "redacted_values")]
    pub properties: BTreeMap<String, String>,
}

/// A service that reads this one's events, beside the one that `kafka.outbound_consumer` names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSettings {
    /// Whether events wait for its answers; else it is watched, and never waited for.
    pub required: bool,
    /// Where it is asked what it has: `https://` or `http://` with host and port; empty: its copy is not verified.
    #[serde(default)]
    pub url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Its `http.api_token`, if it has one.
    #[serde(default, serialize_with = "redacted")]
    pub api_token: SecretString,
}

/// Copies of views that other programs keep on topics; none by default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSettings {
    /// The topic of each customer's last purchases, of which order-service keeps a copy; empty: it keeps none.
    pub purchases_topic: String,
    /// Where messages of that view are answered whose headers name an event; empty: nobody is answered.
    #[serde(default)]
    pub purchases_ack_topic: String,
}
