//! What tests send, receive and are told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use common::config::{KafkaSettings, SignatureRequirement, SigningSettings};
use common::event::Event;

use super::signing::SIGNATURE;
use super::{EmbeddedBroker, Envelope, Message, Record, Signing};

/// What a test's service is told of its broker: it sends to `topic`, which is there.
pub(crate) fn settings_for_tests(brokers: String, topic: &str, partitions: i32) -> KafkaSettings {
    KafkaSettings {
        brokers,
        outbound_topic: topic.to_owned(),
        outbound_ack_topic: "acks".to_owned(),
        outbound_consumer: "order-service".to_owned(),
        inbound_topic: String::new(),
        inbound_ack_topic: String::new(),
        partitions,
        replication: 1,
        min_insync_replicas: -1,
        retention: Duration::from_secs(86_400),
        create_topics: false,
        properties: EmbeddedBroker::properties(),
    }
}

/// Keys of a test, by which messages of this kind have to be signed.
pub(crate) fn signing_for_tests(require: SignatureRequirement) -> Signing {
    let secret = "c2l4dHkgYnl0ZXMgdGhhdCBub2JvZHkgZWxzZSBrbm93cyE=".into();
    let keys = [("k1".to_owned(), secret)].into();
    let settings = SigningSettings { current: "k1".to_owned(), require, keys };
    Signing::new(&settings).unwrap()
}

/// An event of which every byte is known, with its envelope.
pub(crate) fn envelope_for_tests() -> Envelope {
    let event = Event {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        event_type: "stockloop.inventory.changed".to_owned(),
        key: "85123A".to_owned(),
        epoch: 1,
        attempt: 2,
        time: "2026-01-05T12:00:00.123456Z".parse().unwrap(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        data: br#"{"sku":"85123A"}"#.to_vec(),
    };
    Envelope { source: "/product-service".to_owned(), event }
}

/// `message` as it comes from the broker, with `signature`.
pub(crate) fn received_for_tests(message: &Message, signature: Option<String>) -> Record {
    let mut record = Record::from(message.clone());
    record.headers.extend(signature.map(|text| (SIGNATURE.to_owned(), text.into_bytes())));
    record
}
