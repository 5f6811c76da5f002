use std::time::Duration;

use common::clock::Timestamp;
use common::config::{SignatureRequirement, SigningSettings};
use common::event::Event;
use common::ids::EventId;
use common::telemetry::BrokerState;
use engine::dead_letters::{DeadLetter, store};
use engine::kafka::{BatchLimits, Consumer, EmbeddedBroker, Envelope, Record};
use engine::stats::Sampler;
use serde_json::json;
use stockloop_tests::on_every_database;
use stockloop_tests::poll::eventually;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_letter_is_shown_whole,
    a_letter_is_discarded_with_a_reason,
    what_cannot_be_read_is_not_replayed,
    a_replay_sends_the_same_message,
    what_is_of_a_view_is_not_replayed,
    what_would_not_be_believed_is_not_replayed,
);

const TOPIC: &str = "stockloop.orders.v1";

fn record(id: EventId, at: Timestamp) -> Record {
    let event = Event {
        id,
        event_type: "stockloop.order.placed".to_owned(),
        key: "O-1".to_owned(),
        epoch: 1,
        attempt: 1,
        time: at,
        traceparent: None,
        data: vec![b'{', 0xff, b'}'],
    };
    let envelope = Envelope { source: "/order-service".to_owned(), event };
    Record { offset: 5, ..Record::from(envelope.into_message(TOPIC, 0)) }
}

impl AdminFixture {
    async fn buried(&self, record: &Record) -> String {
        let letter = DeadLetter::of(record, "a flaw of an older version", self.env.now());
        self.write(move |conn| store(conn, &letter)).await;
        self.get("/dead-letters?limit=1").await.items("seq")[0].clone()
    }
}

async fn a_letter_is_shown_whole(fixture: AdminFixture) {
    let record = record(fixture.env.event_id(), fixture.env.now());
    let seq = fixture.buried(&record).await;
    let letter = fixture.get(&format!("/dead-letters/{seq}")).await.body;
    assert_eq!(
        (&letter["bytes_hex"], &letter["bytes_text"]),
        (&json!("7bff7d"), &json!("{\u{fffd}}"))
    );
    assert_eq!((&letter["key"], &letter["state"]), (&json!("O-1"), &json!("waiting")));
    assert_eq!(letter["headers"][0], json!({ "name": "ce_specversion", "value": "1.0" }));
    assert_eq!(letter["headers"].as_array().unwrap().len(), 9);
}

async fn a_letter_is_discarded_with_a_reason(fixture: AdminFixture) {
    let seq = fixture.buried(&record(fixture.env.event_id(), fixture.env.now())).await;
    let path = format!("/dead-letters/{seq}/discard");
    fixture.post(&path, json!({})).await.is_problem(422, "reason");
    let gone = fixture.post(&path, json!({ "reason": "of no use" })).await;
    assert_eq!((gone.status, &gone.body["state"]), (200, &json!("discarded")), "{gone:?}");
    assert_eq!(
        (&gone.body["handled_by"], &gone.body["reason"]),
        (&json!("anonymous"), &json!("of no use"))
    );
    fixture.post(&path, json!({ "reason": "again" })).await.is_problem(409, "");
    fixture.post("/dead-letters/99/discard", json!({ "reason": "x" })).await.is_problem(404, "");
    assert!(fixture.get("/dead-letters?state=waiting").await.items("seq").is_empty());
    assert_eq!(fixture.get("/dead-letters?state=discarded").await.items("seq"), [seq]);
    fixture.get("/dead-letters?state=lost").await.is_problem(422, "state");
    let sample = Sampler::default().run_once(&fixture.db, &fixture.env).await.unwrap();
    assert_eq!(sample.dead_letters, 0, "only what waits is counted");
}

async fn what_is_of_a_view_is_not_replayed(fixture: AdminFixture) {
    let fixture = fixture.copying_a_view();
    let whole = record(fixture.env.event_id(), fixture.env.now());
    let seq = fixture.buried(&Record { topic: "purchases".to_owned(), ..whole }).await;
    let refused = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    refused.is_problem(422, "seq");
    assert!(refused.body["detail"].as_str().unwrap().contains("a view's topic"), "{refused:?}");
    let gone =
        fixture.post(&format!("/dead-letters/{seq}/discard"), json!({ "reason": "x" })).await;
    assert_eq!((gone.status, &gone.body["state"]), (200, &json!("discarded")), "{gone:?}");
}

async fn what_cannot_be_read_is_not_replayed(fixture: AdminFixture) {
    let whole = record(fixture.env.event_id(), fixture.env.now());
    let headers = whole.headers.iter().filter(|(name, _)| name != "ce_type").cloned().collect();
    let seq = fixture.buried(&Record { headers, ..whole.clone() }).await;
    let refused = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    refused.is_problem(422, "seq");
    assert!(refused.body["detail"].as_str().unwrap().contains("ce_type"), "{refused:?}");
    let answers = fixture.engine.settings.kafka.outbound_ack_topic.clone();
    let seq = fixture.buried(&Record { topic: answers, offset: 6, ..whole.clone() }).await;
    let refused = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("batch of acks"), "{refused:?}");
    fixture.dead_letter(7, vec![1]).await;
    let seq = fixture.get("/dead-letters?limit=1").await.items("seq")[0].clone();
    let refused = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("were not kept"), "{refused:?}");
    // Readable, but with nothing that could send it.
    let seq = fixture.buried(&Record { offset: 8, ..whole }).await;
    let fixture = fixture.with(|settings| {
        settings.kafka.brokers = "127.0.0.1:1".to_owned();
        settings.kafka.properties.insert("message_timeout_ms".to_owned(), "100".to_owned());
    });
    fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await.is_problem(503, "");
    assert_eq!(fixture.get("/dead-letters?state=waiting").await.items("seq").len(), 4);
}

/// A person can't have a forged message count either: only who has the key can.
async fn what_would_not_be_believed_is_not_replayed(fixture: AdminFixture) {
    let fixture = fixture.with(|settings| {
        let secret = "c2l4dHkgYnl0ZXMgdGhhdCBub2JvZHkgZWxzZSBrbm93cyE=".into();
        settings.signing = SigningSettings {
            current: "k1".to_owned(),
            require: SignatureRequirement::All,
            keys: [("k1".to_owned(), secret)].into(),
        };
    });
    let seq = fixture.buried(&record(fixture.env.event_id(), fixture.env.now())).await;
    let refused = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    refused.is_problem(422, "seq");
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("not be believed") && detail.contains("not signed"), "{refused:?}");
    assert_eq!(fixture.get("/dead-letters?state=waiting").await.items("seq"), [seq]);
}

async fn a_replay_sends_the_same_message(fixture: AdminFixture) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(TOPIC, 2).unwrap();
    let fixture = fixture.with(|settings| settings.kafka.brokers = broker.brokers());
    let kafka = &fixture.engine.settings.kafka;
    let record = Record { partition: 1, ..record(fixture.env.event_id(), fixture.env.now()) };
    let seq = fixture.buried(&record).await;
    let replayed = fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await;
    assert_eq!(
        (replayed.status, &replayed.body["state"]),
        (200, &json!("replayed")),
        "{replayed:?}"
    );
    let consumer = Consumer::subscribe(kafka, "test", TOPIC, BrokerState::default()).unwrap();
    let came = eventually("the message to come", Duration::from_secs(30), async || {
        // Empty where the partitions have only just been given.
        let came = consumer.next_batch(BatchLimits::new(1, Duration::from_millis(1))).await;
        if came.is_empty() { Err(()) } else { Ok(came) }
    });
    let came = came.await;
    let Record { assignment, timestamp, .. } = came[0];
    assert_eq!(came, [Record { offset: 0, assignment, timestamp, ..record }]);
    fixture.post(&format!("/dead-letters/{seq}/replay"), json!({})).await.is_problem(409, "");
    let done = fixture.get("/audit?action=dead_letter.replay").await;
    assert_eq!(done.items("subject"), [seq]);
}
