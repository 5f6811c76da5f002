//! docs/asyncapi.yaml, held against the messages that running services send.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{Draft, Validator};
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};
use serde_json::{Map, Value, json};
use service::app::Service;
use stockloop_tests::poll::eventually;
use uuid::Uuid;

use crate::system::{DEADLINE, TestSystem, text};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.yaml");

/// The document, made to refuse what it does not tell of.
struct AsyncApi(Value);

impl AsyncApi {
    fn read() -> Self {
        let mut document: Value = serde_saphyr::from_str(DOCUMENT).expect("the document is YAML");
        close(&mut document["components"]["schemas"]);
        Self(document)
    }

    /// Where a reference leads.
    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => self.follow(self.0.pointer(&to[1..]).unwrap_or_else(|| panic!("{to}"))),
            None => value,
        }
    }

    /// A channel's message of this `ce_type`.
    fn message(&self, channel: &str, ce_type: &str) -> Result<&Value, String> {
        let messages = self.0["channels"][channel]["messages"].as_object().expect("messages");
        let mut messages = messages.values().map(|message| self.follow(message));
        messages
            .find(|message| message["name"] == ce_type)
            .ok_or_else(|| format!("the channel {channel} has no message {ce_type}"))
    }

    /// A schema within the document, with its references.
    fn validator(&self, schema: &Value) -> Validator {
        // Beside `$ref` nothing counts in this draft, so the schema becomes one of several.
        let whole = json!({ "allOf": [schema], "components": self.0["components"] });
        jsonschema::options()
            .with_draft(Draft::Draft7)
            .with_format("uuid", |text: &str| Uuid::parse_str(text).is_ok())
            .should_validate_formats(true)
            .build(&whole)
            .expect("the document's schemas are schemas")
    }

    fn check(
        &self,
        channel: &str,
        key: &Value,
        headers: &Value,
        payload: &Value,
    ) -> Result<(), String> {
        let message = self.message(channel, headers["ce_type"].as_str().unwrap_or_default())?;
        for (part, schema, value) in [
            ("key", &message["bindings"]["kafka"]["key"], key),
            ("headers", &message["headers"], headers),
            ("payload", &message["payload"], payload),
        ] {
            self.validator(schema).validate(value).map_err(|error| {
                format!("{channel}: {part} at {}: {error}\n{value}", error.instance_path())
            })?;
        }
        Ok(())
    }
}

/// Objects take only what they tell of; headers are put together from several and stay open.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.contains_key("type") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
            for (_, value) in map.iter_mut().filter(|(key, _)| !key.ends_with("Headers")) {
                close(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn the_examples_are_as_the_document_says() {
    let document = AsyncApi::read();
    for (channel, content) in document.0["channels"].as_object().expect("channels") {
        for message in content["messages"].as_object().expect("messages").values() {
            for example in document.follow(message)["examples"].as_array().expect("examples") {
                let headers = &example["headers"];
                let key = headers.get("ce_subject").cloned().unwrap_or(json!("3"));
                document.check(channel, &key, headers, &example["payload"]).expect("an example");
            }
        }
    }
}

#[test]
fn the_addresses_are_the_settings_of_both_services() {
    let document = AsyncApi::read();
    let address = |channel: &str| document.0["channels"][channel]["address"].clone();
    let topics = |service: &Service| {
        let defaults: toml::Table = service.defaults.parse().expect("TOML");
        let kafka = defaults["kafka"].as_table().expect("a table").clone();
        ["outbound_topic", "outbound_ack_topic", "inbound_topic", "inbound_ack_topic"]
            .map(|name| json!(kafka[name].as_str()))
    };
    let channels = ["inventory", "inventoryAcks", "orders", "orderAcks"].map(address);
    assert_eq!(topics(&product_service::SERVICE), channels);
    let [ours, answers, theirs, back] = channels;
    assert_eq!(topics(&order_service::SERVICE), [theirs, back, ours, answers]);
}

#[test]
fn what_the_document_does_not_know_fails() {
    let document = AsyncApi::read();
    let message = document.message("orders", "stockloop.order.placed").expect("it is there");
    let (headers, payload) =
        (&message["examples"][0]["headers"], &message["examples"][0]["payload"]);
    let key = &headers["ce_subject"];
    assert_eq!(document.check("orders", key, headers, payload), Ok(()));
    let mut other = headers.clone();
    other["ce_type"] = json!("stockloop.order.changed");
    assert!(document.check("orders", key, &other, payload).is_err(), "an unknown type");
    let mut more = payload.clone();
    more["coupon"] = json!("X");
    assert!(document.check("orders", key, headers, &more).is_err(), "an unknown field");
    let mut less = headers.clone();
    less.as_object_mut().expect("headers").remove("stockloopepoch");
    assert!(document.check("orders", key, &less, payload).is_err(), "a missing header");
    assert!(document.check("orders", &json!("A"), headers, payload).is_err(), "another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_are_as_the_document_says() {
    let system = TestSystem::embedded().await;
    play(&system).await;
    let document = AsyncApi::read();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (channel, message) in system.topics.all() {
        let (key, headers, payload) = parts(&message);
        if let Err(error) = document.check(channel, &key, &headers, &payload) {
            panic!("{error}");
        }
        let kinds = seen.entry(channel).or_default();
        match payload["acks"].as_array() {
            Some(acks) => kinds.extend(acks.iter().map(|ack| text(&ack["outcome"]))),
            None => drop(kinds.insert(text(&headers["ce_type"]))),
        }
    }
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::from([
        ("inventory", set(&["stockloop.inventory.changed", "stockloop.inventory.removed"])),
        ("inventoryAcks", set(&["FAILED", "SUCCESS"])),
        ("orders", set(&["stockloop.order.cancelled", "stockloop.order.placed"])),
        ("orderAcks", set(&["REJECTED", "SUCCESS"])),
    ]);
    assert_eq!(seen, wanted);
    system.stop().await;
}

/// Every type of event, and every outcome of one.
async fn play(system: &TestSystem) {
    let (product, order) = (&system.product, &system.order);
    for sku in ["TEA", "MUG", "JAM"] {
        product.put_product(sku, 12).await;
    }
    product.adjust("TEA", -2).await;
    assert_eq!(product.delete("/api/v1/inventory/MUG").await.status, 204);
    system.wait_until_settled().await;

    // The copy hears no more of the jam, so it promises what the owner has no longer.
    order.quarantine("JAM", "so that its copy is old").await;
    product.adjust("JAM", -12).await;
    let refused = text(&order.place_order("JAM", 5).await["id"]);
    wait_for_order(system, &refused, "REJECTED").await;
    let taken = text(&order.place_order("TEA", 5).await["id"]);
    wait_for_order(system, &taken, "CONFIRMED").await;
    let cancel = format!("/api/v1/orders/{taken}/cancel");
    order.post(&cancel, json!({ "reason": "changed their mind" })).await.ok();
    wait_for_order(system, &taken, "CANCELLED").await;
    order.release("JAM").await;
    eventually("a FAILED answer", DEADLINE, async || {
        let failed = system.topics.all_acks().iter().any(|ack| ack["outcome"] == "FAILED");
        if failed { Ok(()) } else { Err("none yet") }
    })
    .await;
}

async fn wait_for_order(system: &TestSystem, order: &str, status: &str) {
    eventually("an order's status", DEADLINE, async || {
        let found = system.order.get(&format!("/api/v1/orders/{order}")).await.ok();
        if found["status"] == status { Ok(()) } else { Err(found) }
    })
    .await;
}

fn parts(message: &OwnedMessage) -> (Value, Value, Value) {
    let utf8 = |bytes: Option<&[u8]>| json!(String::from_utf8_lossy(bytes.unwrap_or_default()));
    let headers = message.headers().expect("headers").iter();
    let headers: Map<String, Value> =
        headers.map(|header| (header.key.to_owned(), utf8(header.value))).collect();
    let payload = serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
    (utf8(message.key()), Value::Object(headers), payload)
}
