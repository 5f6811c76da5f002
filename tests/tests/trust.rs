//! Signatures of messages on all parts: what nobody signed changes nothing, and a key that was changed on one side only
//! loses nothing.

use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};
use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::topics::{RawMessage, Topics};
use crate::system::{DEADLINE, TestService, TestSystem, on_embedded_and_real, text};

on_embedded_and_real!(only_what_is_signed_counts as "signed");

const SIGNATURE: &str = "stockloopsignature";

/// What both services sign with, and ask for.
pub(crate) const SIGNED: &str = r#"
[signing]
current = "k1"
require = "all"
keys = { k1 = "yvrhzSOjbvzmVZw+gkYmXVbgCKH8R2N6kkKqBIPm8ac=" }
"#;

/// Signs with another key, beside which the first one is still taken.
pub(crate) const ANOTHER_KEY: [(&str, &str); 2] = [
    ("STOCKLOOP__SIGNING__CURRENT", "k2"),
    ("STOCKLOOP__SIGNING__KEYS__K2", "v6xZ3tq0d5b1r3sJY8m7wz1Qb2n9uCk4Hh0aTtR6yXE="),
];

async fn only_what_is_signed_counts(mut system: TestSystem) {
    system.restart_also(SIGNED).await;
    let held = play(&system).await;
    for (channel, message) in system.topics.all() {
        assert!(signature_of(&message).starts_with(b"v1,k1,"), "{channel}: {message:?}");
    }
    forge_events(&system).await;
    forge_answers(&system, &held).await;
    repeat_all_that_counts(&system).await;
    for (service, message) in [(&system.order, "event"), (&system.product, "ack")] {
        for outcome in ["missing", "wrong"] {
            wait_until_counted(service, message, outcome).await;
        }
    }
    assert_eq!(system.product.event(&held).await["status"], "EXHAUSTED", "nobody answered it");
    let letters = system.order.dead_letters().await;
    let words = ["is not signed", "does not fit"];
    assert_eq!(letters.len(), words.len(), "{letters:?}");
    assert!(letters.iter().zip(words).all(|(letter, words)| letter.error.contains(words)));
    assert!(system.product.dead_letters().await.is_empty(), "forged answers are not kept");

    system.order.release("HELD").await;
    system.product.post(&format!("/api/admin/v1/events/{held}/retry"), json!({})).await.ok();
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    assert_eq!(system.order.get("/api/v1/inventory/TEA").await.ok()["quantity"], 10);
    system.stop().await;
}

/// Events and answers in both directions, and an event that stays open: its id.
async fn play(system: &TestSystem) -> String {
    let (product, order) = (&system.product, &system.order);
    // Before there is anything, so that nothing is sent to fill it.
    order.wait_until_complete().await;
    order.quarantine("HELD", "so that its event stays open").await;
    product.put_product("HELD", 1).await;
    product.put_product("TEA", 12).await;
    eventually("the tea in the copy", DEADLINE, async || {
        let found = order.get("/api/v1/inventory/TEA").await;
        if found.status == 200 { Ok(()) } else { Err(found) }
    })
    .await;
    let placed = text(&order.place_order("TEA", 2).await["id"]);
    order.wait_for_order(&placed, "CONFIRMED").await;
    text(&product.wait_for_exhausted_key("HELD").await["id"])
}

/// A state that the owner never had: unsigned, and with the signature of a true one.
async fn forge_events(system: &TestSystem) {
    let events = system.topics.all_of(system.topics.events());
    let tea = events.iter().find(|event| has_key(event, "TEA")).expect("an event of the tea");
    let mut state: Value = serde_json::from_slice(tea.payload().unwrap_or_default()).expect("JSON");
    state["quantity"] = json!(999);
    state["version"] = json!(999);
    forge(system, system.topics.events(), tea, &state).await;
}

/// The answer that an event is waiting for, which nobody gave.
async fn forge_answers(system: &TestSystem, held: &str) {
    let acks = system.topics.all_of(system.topics.acks());
    let answer = json!({
        "event_id": held,
        "attempt": 3,
        "outcome": "SUCCESS",
        "consumer": system.topics.order(),
        "processed_at": "2026-01-05T12:00:00Z",
    });
    let said = json!({ "acks": [answer] });
    forge(system, system.topics.acks(), acks.first().expect("an answer"), &said).await;
}

async fn forge(system: &TestSystem, topic: &str, real: &OwnedMessage, said: &Value) {
    let producer = system.topics.producer();
    let headers = real.headers().expect("headers").iter();
    let headers: Vec<(String, Vec<u8>)> = headers
        .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_owned()))
        .collect();
    let bare = headers.iter().filter(|(name, _)| name != SIGNATURE).cloned().collect();
    for headers in [bare, headers] {
        let message = RawMessage { headers, payload: Some(said.to_string().into_bytes()) };
        Topics::send(&producer, topic, 0, &message).await;
    }
}

pub(crate) fn signature_of(message: &OwnedMessage) -> Vec<u8> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let signature =
        headers.filter(|header| header.key == SIGNATURE).find_map(|header| header.value);
    signature.unwrap_or_default().to_owned()
}

/// Whoever reads the topics can send what is on them once more, but that is all.
async fn repeat_all_that_counts(system: &TestSystem) {
    let producer = system.topics.producer();
    // What is forged has a key of its own, and what is held would arrive once it is released.
    let is_left_out = |message: &OwnedMessage| has_key(message, "key") || has_key(message, "HELD");
    for (_, message) in system.topics.all() {
        if !is_left_out(&message) {
            Topics::send_again(&producer, &message).await;
        }
    }
}

fn has_key(message: &OwnedMessage, key: &str) -> bool {
    message.key() == Some(key.as_bytes())
}

async fn wait_until_counted(service: &TestService, message: &str, outcome: &str) {
    let counter =
        format!(r#"stockloop_signatures_total{{message="{message}",outcome="{outcome}"}} "#);
    eventually(&format!("a count of {counter}"), DEADLINE, async || {
        let text = service.metrics().await;
        let count = text.lines().find_map(|line| line.strip_prefix(&counter)).map(str::to_owned);
        if count.as_ref().is_some_and(|count| count != "0") { Ok(()) } else { Err(count) }
    })
    .await;
}

/// The wrong order: product-service signs with a key before order-service knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_yet_loses_nothing() {
    let Some(mut system) = TestSystem::real("signing_keys").await else { return };
    system.restart_also(SIGNED).await;
    system.product.put_product("TEA", 1).await;
    system.wait_until_settled().await;
    system.product.restart_with(&ANOTHER_KEY).await;
    system.product.put_product("TEA", 2).await;
    let alert = eventually("order-service to say that it believes nothing", DEADLINE, async || {
        open_alert(&system.order).await.ok_or("none yet")
    })
    .await;
    assert_eq!(alert["key"], system.topics.events());
    assert!(text(&alert["error"]).contains(r#"signed with the key "k2""#), "{alert}");
    assert_eq!(system.order.get("/api/v1/inventory/TEA").await.ok()["quantity"], 1);
    system.order.restart_with(&ANOTHER_KEY).await;
    system.wait_until_settled().await;
    system.assert_nothing_gave_up().await;
    eventually("the alert to be closed", DEADLINE, async || {
        open_alert(&system.order).await.map_or(Ok(()), Err)
    })
    .await;
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
    system.stop().await;
}

async fn open_alert(service: &TestService) -> Option<Value> {
    let path = "/api/admin/v1/alerts?state=open&kind=not_trusted";
    service.get(path).await.ok()["items"].as_array()?.first().cloned()
}
