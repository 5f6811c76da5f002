//! docs/asyncapi.yaml, held against the messages that running services send, and against what makes the views.

pub(crate) mod views;

use std::collections::{BTreeMap, BTreeSet};

use common::config::Settings;
use jsonschema::{Draft, Validator};
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};
use serde_json::{Map, Value, json};
use service::app::Service;
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, TestSystem, text};
use crate::{schemas, trust};

const DOCUMENT: &str = include_str!("../../docs/asyncapi.yaml");

/// The document and the schemas that it refers to, made to refuse what they do not tell of.
struct AsyncApi {
    document: Value,
    schemas: BTreeMap<String, Value>,
}

impl AsyncApi {
    fn read() -> Self {
        let mut document: Value = serde_saphyr::from_str(DOCUMENT).expect("the document is YAML");
        schemas::close(&mut document["components"]["schemas"]);
        let mut schemas = schemas::present();
        schemas.values_mut().for_each(schemas::close);
        Self { document, schemas }
    }

    /// Where a reference leads.
    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => {
                self.follow(self.document.pointer(&to[1..]).unwrap_or_else(|| panic!("{to}")))
            }
            None => value,
        }
    }

    /// The channels between the services, or those of the views.
    fn channels(&self, of_views: bool) -> impl Iterator<Item = (&String, &Value)> {
        let channels = self.document["channels"].as_object().expect("channels").iter();
        channels.filter(move |(_, channel)| (channel["tags"][0]["name"] == "views") == of_views)
    }

    /// A channel's message of this `ce_type`.
    fn message(&self, channel: &str, ce_type: &str) -> Result<&Value, String> {
        let messages =
            self.document["channels"][channel]["messages"].as_object().expect("messages");
        let mut messages = messages.values().map(|message| self.follow(message));
        messages
            .find(|message| message["name"] == ce_type)
            .ok_or_else(|| format!("the channel {channel} has no message {ce_type}"))
    }

    /// What a key or headers have to be, with the parts of the document that this refers to.
    fn validator(&self, schema: &Value) -> Validator {
        // Beside `$ref` nothing counts in this draft, so the schema becomes one of several.
        let components = &self.document["components"];
        schemas::validator(Draft::Draft7, &json!({ "allOf": [schema], "components": components }))
    }

    /// The name of the schema of a payload.
    fn schema_of<'a>(&self, payload: &'a Value) -> &'a str {
        assert_eq!(payload["schemaFormat"], "application/schema+json;version=draft-2020-12");
        let file = payload["schema"]["$ref"].as_str().expect("a file");
        let name = file.strip_prefix("./schemas/").and_then(|name| name.strip_suffix(".json"));
        name.filter(|name| self.schemas.contains_key(*name)).unwrap_or_else(|| panic!("{file}"))
    }

    /// What a payload has to be, with the file that this refers to.
    fn payload_validator(&self, payload: &Value) -> Validator {
        let name = self.schema_of(payload);
        let mut schema = payload["schema"].clone();
        schema["$ref"] = self.schemas[name]["$id"].clone();
        schema["$defs"] = json!({ name: self.schemas[name] });
        schemas::validator(Draft::Draft202012, &schema)
    }

    fn check(
        &self,
        channel: &str,
        key: &Value,
        headers: &Value,
        payload: &Value,
    ) -> Result<(), String> {
        let message = self.message(channel, headers["ce_type"].as_str().unwrap_or_default())?;
        for (part, validator, value) in [
            ("key", self.validator(&message["bindings"]["kafka"]["key"]), key),
            ("headers", self.validator(&message["headers"]), headers),
            ("payload", self.payload_validator(&message["payload"]), payload),
        ] {
            validator.validate(value).map_err(|error| {
                format!("{channel}: {part} at {}: {error}\n{value}", error.instance_path())
            })?;
        }
        Ok(())
    }
}

#[test]
fn the_examples_are_as_the_document_says() {
    let document = AsyncApi::read();
    for (channel, content) in document.channels(false) {
        for message in content["messages"].as_object().expect("messages").values() {
            let message = document.follow(message);
            let schema = &document.schemas[document.schema_of(&message["payload"])];
            let payloads = schema["examples"].as_array().expect("examples");
            for example in message["examples"].as_array().expect("examples") {
                assert!(payloads.contains(&example["payload"]), "the schema has it too: {example}");
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
    let address = |channel: &str| document.document["channels"][channel]["address"].clone();
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
    let mut system = TestSystem::embedded().await;
    system.restart_also(trust::SIGNED).await;
    play(&system).await;
    let document = AsyncApi::read();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (channel, message) in system.topics.all() {
        let (key, headers, payload) = parts(&message);
        assert!(headers["stockloopsignature"].is_string(), "{headers}");
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
    order.wait_for_order(&refused, "REJECTED").await;
    let taken = text(&order.place_order("TEA", 5).await["id"]);
    order.wait_for_order(&taken, "CONFIRMED").await;
    let cancel = format!("/api/v1/orders/{taken}/cancel");
    order.post(&cancel, json!({ "reason": "changed their mind" })).await.ok();
    order.wait_for_order(&taken, "CANCELLED").await;
    order.release("JAM").await;
    eventually("a FAILED answer", DEADLINE, async || {
        let failed = system.topics.all_acks().iter().any(|ack| ack["outcome"] == "FAILED");
        if failed { Ok(()) } else { Err("none yet") }
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

/// What a topic is made with, where the settings are left as they are.
#[test]
fn topics_are_described_as_they_are_made() {
    let document = AsyncApi::read();
    for service in [product_service::SERVICE, order_service::SERVICE] {
        let kafka = Settings::load(service.defaults, None).expect("defaults are settings").kafka;
        let made = json!({
            "partitions": kafka.partitions,
            "topicConfiguration": {
                "cleanup.policy": ["delete"],
                "retention.ms": i64::try_from(kafka.retention.as_millis()).expect("some days"),
                "retention.bytes": -1,
            },
            "bindingVersion": "0.5.0",
        });
        for (channel, described) in document.channels(false) {
            assert_eq!(described["bindings"]["kafka"], made, "{channel}");
        }
    }
}
