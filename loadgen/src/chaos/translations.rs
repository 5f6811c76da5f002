//! Messages as another release would write them. One that is older leaves out what need not be there, and one that is newer
//! says more than this one knows, each as far as docs/schemas/README.md lets it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::readers::{Progress, client, is_of_answers, progress, read_by};
use crate::check::Side;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What no release knows yet: a field, and a header.
const NEW_FIELD: &str = "since_a_later_release";
const NEW_HEADER: &str = "stockloopsincealaterrelease";

/// A release that is not this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    Older,
    Newer,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Older => "an older release",
            Self::Newer => "a newer release",
        })
    }
}

/// Says what waits for a service, which is away, once more as `release` would, and deletes it as it was said before. Returns
/// how many messages that were.
pub(super) fn translate(
    runtime: &Runtime,
    brokers: &str,
    side: Side,
    release: Release,
) -> Result<u64> {
    let timeout_ms = TIMEOUT.as_millis().to_string();
    let sender: FutureProducer = client(brokers).set("message.timeout.ms", timeout_ms).create()?;
    let (mut sent, mut said) = (Vec::new(), TopicPartitionList::new());
    for (topic, group) in read_by(side) {
        let waiting: Vec<Progress> = progress(brokers, topic, group)?
            .into_iter()
            .filter(|place| place.goes_on_at() < place.high)
            .collect();
        for message in read(brokers, topic, &waiting)? {
            sent.push(send(&sender, &message, release)?);
        }
        for place in waiting {
            said.add_partition_offset(topic, place.partition, Offset::Offset(place.high))?;
        }
    }
    let many = u64::try_from(sent.len())?;
    // What is deleted has to be there in other words.
    for delivery in sent {
        let taken = runtime.block_on(delivery).context("a message was given up")?;
        taken.map_err(|(error, _)| error).context("the broker does not take everything")?;
    }
    if many > 0 {
        delete(runtime, brokers, &said)?;
    }
    Ok(many)
}

/// The messages of a topic that wait at these places.
fn read(brokers: &str, topic: &str, waiting: &[Progress]) -> Result<Vec<OwnedMessage>> {
    let reader: BaseConsumer = client(brokers)
        .set("group.id", "chaos-translator")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    for place in waiting {
        list.add_partition_offset(topic, place.partition, Offset::Offset(place.goes_on_at()))?;
    }
    reader.assign(&list)?;
    let mut ends: BTreeMap<i32, i64> =
        waiting.iter().map(|place| (place.partition, place.high)).collect();
    let mut messages = Vec::new();
    while !ends.is_empty() {
        let message = reader.poll(TIMEOUT).with_context(|| format!("{topic} does not end"))?;
        let message = message.with_context(|| format!("{topic} can't be read"))?.detach();
        let Some(end) = ends.get(&message.partition()).copied() else { continue };
        if message.offset() + 1 >= end {
            ends.remove(&message.partition());
        }
        if message.offset() < end {
            messages.push(message);
        }
    }
    Ok(messages)
}

/// Sends it in the words of `release`; what it returns waits until the broker has it.
fn send(
    sender: &FutureProducer,
    message: &OwnedMessage,
    release: Release,
) -> Result<DeliveryFuture> {
    let payload = message.payload().unwrap_or_default();
    let data: Value = serde_json::from_slice(payload)
        .map_err(|error| anyhow!("{} has what is no JSON: {error}", message.topic()))?;
    let payload = in_words_of(release, is_of_answers(message.topic()), data).to_string();
    let headers = headers_of(release, message.headers());
    let record: FutureRecord<'_, [u8], str> = FutureRecord {
        topic: message.topic(),
        partition: Some(message.partition()),
        payload: Some(payload.as_str()),
        key: message.key(),
        timestamp: None,
        headers: Some(headers),
    };
    Ok(sender.send_result(record).map_err(|(error, _)| error)?)
}

/// Deletes all that lies before these places.
fn delete(runtime: &Runtime, brokers: &str, places: &TopicPartitionList) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let deleted = runtime.block_on(admin.delete_records(places, &options))?;
    for place in deleted.elements() {
        place.error().with_context(|| format!("{} keeps what was said", place.topic()))?;
    }
    Ok(())
}

/// The headers of a message as `release` writes them.
fn headers_of(release: Release, headers: Option<&OwnedHeaders>) -> OwnedHeaders {
    let kept = headers.into_iter().flat_map(|headers| headers.iter()).filter(|header| {
        // What need not be there.
        release == Release::Newer || header.key != "traceparent"
    });
    let written = kept.fold(OwnedHeaders::new(), |all, Header { key, value }| match key {
        // A newer one of the same major version.
        "ce_specversion" if release == Release::Newer => {
            all.insert(Header { key, value: Some("1.1") })
        }
        _ => all.insert(Header { key, value }),
    });
    match release {
        Release::Older => written,
        Release::Newer => written
            .insert(Header { key: "ce_dataschema", value: Some("urn:stockloop:a-later-one") })
            .insert(Header { key: NEW_HEADER, value: Some([0xff, 0xfe].as_slice()) })
            .insert(Header { key: NEW_HEADER, value: None::<&[u8]> }),
    }
}

/// The data of an event, or of answers, as `release` writes it.
fn in_words_of(release: Release, is_of_answers: bool, mut data: Value) -> Value {
    match (release, is_of_answers) {
        (Release::Older, true) => each_of(&mut data, "acks", without_the_rest),
        (Release::Older, false) => {
            if let Some(event) = data.as_object_mut() {
                ["cause", "reason"].iter().for_each(|field| drop(event.remove(*field)));
            }
        }
        (Release::Newer, true) => {
            each_of(&mut data, "acks", |ack| {
                // People read it, and whoever does not know the word takes it as it comes.
                if let Some(detail) = ack.get_mut("detail") {
                    *detail = json!("merged");
                }
                if let Some(result) = ack.get_mut("result") {
                    each_of(result, "lines", say_more);
                    result.as_object_mut().into_iter().for_each(say_more);
                }
                say_more(ack);
            });
            data.as_object_mut().into_iter().for_each(say_more);
        }
        (Release::Newer, false) => {
            each_of(&mut data, "lines", say_more);
            if let Some(cause) = data.get_mut("cause").and_then(Value::as_object_mut) {
                // That of an order is known to all.
                if cause.get("kind").is_some_and(|kind| kind != "order") {
                    cause.insert("kind".to_owned(), json!("stocktaking"));
                }
                say_more(cause);
            }
            data.as_object_mut().into_iter().for_each(say_more);
        }
    }
    data
}

/// Does something to each of the objects in the list of this name, if there is one.
fn each_of(data: &mut Value, list: &str, change: impl FnMut(&mut Map<String, Value>)) {
    let all = data.get_mut(list).and_then(Value::as_array_mut);
    all.into_iter().flatten().filter_map(Value::as_object_mut).for_each(change);
}

/// Leaves out what an answer need not say. Whether it may be tried again, the error and the result belong to the verdict.
fn without_the_rest(ack: &mut Map<String, Value>) {
    for field in ["detail", "version", "traceparent", "partition", "offset"] {
        ack.remove(field);
    }
    // The same moment in another way of RFC 3339.
    if let Some(at) = ack.get_mut("processed_at")
        && let Some(of_utc) = at.as_str().and_then(|at| at.strip_suffix('Z'))
    {
        *at = json!(format!("{of_utc}+00:00"));
    }
}

/// Says what nobody knows yet.
fn say_more(object: &mut Map<String, Value>) {
    let more = json!({ "list": [1, null, "ß"], "object": { "sku": "ANOTHER" }, "is": true });
    object.insert(NEW_FIELD.to_owned(), more);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::event::Event;
    use common::inventory::InventorySnapshot;
    use common::orders::{OrderCancelled, OrderPlaced};
    use engine::kafka::{AckBatch, Envelope, Record};

    use super::*;

    const RELEASES: [Release; 2] = [Release::Older, Release::Newer];

    /// Headers as this release writes those of an event.
    fn headers(event_type: &str) -> OwnedHeaders {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let event = Event {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            event_type: event_type.to_owned(),
            key: "TEA".to_owned(),
            epoch: 1,
            attempt: 1,
            time: "2026-01-05T12:00:00.123456Z".parse().unwrap(),
            traceparent: Some(traceparent.to_owned()),
            data: Vec::new(),
        };
        let envelope = Envelope { source: "/product-service".to_owned(), event };
        let written = envelope.into_message("a topic", 0).headers.into_iter();
        written.fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: Some(value.as_str()) })
        })
    }

    /// What a service of this release reads of an event that another one wrote.
    fn read(release: Release, event_type: &str, data: &Value) -> Envelope {
        let headers = headers_of(release, Some(&headers(event_type)));
        let header = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.unwrap_or_default().to_owned())
        };
        let record = Record {
            headers: headers.iter().map(header).collect(),
            payload: Some(in_words_of(release, false, data.clone()).to_string().into_bytes()),
            ..Record::default()
        };
        Envelope::read(&record).unwrap()
    }

    fn product(cause: &Value) -> Value {
        json!({
            "sku": "TEA", "description": "Tea", "quantity": 12, "unit_price_minor": 255,
            "allow_backorder": false, "removed": false, "version": 7,
            "updated_at": "2026-01-05T12:00:00.123456Z", "cause": cause,
        })
    }

    #[test]
    fn a_product_of_another_release_is_the_same_product() {
        let data = product(&json!({ "kind": "adjustment", "reason": "sale" }));
        let of_this: InventorySnapshot = serde_json::from_value(data.clone()).unwrap();
        for release in RELEASES {
            let Envelope { event, .. } = read(release, "stockloop.inventory.changed", &data);
            assert_eq!(event.traceparent.is_some(), release == Release::Newer);
            let read = InventorySnapshot::of(&event).unwrap();
            assert_ne!(read.cause, of_this.cause, "{release}");
            assert_eq!(InventorySnapshot { cause: of_this.cause.clone(), ..read }, of_this);
        }
    }

    #[test]
    fn a_newer_release_says_of_an_order_what_this_one_does() {
        let cause = json!({ "kind": "order", "reference": "an order" });
        let told = in_words_of(Release::Newer, false, product(&cause));
        let of_this: InventorySnapshot = serde_json::from_value(product(&cause)).unwrap();
        let read: InventorySnapshot = serde_json::from_value(told).unwrap();
        assert_eq!(read, of_this);
    }

    #[test]
    fn commands_of_another_release_are_the_same_commands() {
        let id = "01890a5d-ac98-774b-bcce-b302099a8058";
        let at = "2026-01-05T12:00:02.123456Z";
        let placed = json!({
            "order_id": id, "customer": "17850", "placed_at": at,
            "lines": [{ "sku": "TEA", "quantity": 6 }],
        });
        let cancelled = json!({ "order_id": id, "reason": "changed", "cancelled_at": at });
        for release in RELEASES {
            let read: OrderPlaced =
                serde_json::from_value(in_words_of(release, false, placed.clone())).unwrap();
            assert_eq!(read, serde_json::from_value(placed.clone()).unwrap());
            let read: OrderCancelled =
                serde_json::from_value(in_words_of(release, false, cancelled.clone())).unwrap();
            assert_eq!(read.reason.is_some(), release == Release::Newer);
        }
    }

    #[test]
    fn answers_of_another_release_have_the_same_verdicts() {
        let ack = |outcome: &str, more: &Value| {
            let mut ack = json!({
                "event_id": "01890a5d-ac96-774b-bcce-b302099a8057", "attempt": 2,
                "outcome": outcome, "retryable": true, "consumer": "order-service",
                "processed_at": "2026-01-05T12:00:00.203456Z", "partition": 3, "offset": 1234,
            });
            ack.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            ack
        };
        let answers = json!({ "acks": [
            ack("SUCCESS", &json!({ "detail": "applied", "version": 7 })),
            ack("FAILED", &json!({ "error": "a lock" })),
            ack("REJECTED", &json!({ "result": { "lines": [{ "sku": "TEA" }] } })),
        ]});
        let of_this: AckBatch = serde_json::from_str(&answers.to_string()).unwrap();
        for release in RELEASES {
            let told = in_words_of(release, true, answers.clone());
            let read: AckBatch = serde_json::from_str(&told.to_string()).unwrap();
            assert_eq!(read.acks.len(), of_this.acks.len());
            for (read, of_this) in read.acks.iter().zip(&of_this.acks) {
                assert_eq!((read.outcome, read.attempt), (of_this.outcome, of_this.attempt));
                assert_eq!((&read.error, read.retryable), (&of_this.error, of_this.retryable));
                assert_eq!(read.processed_at, of_this.processed_at);
                assert_eq!(read.result.is_some(), of_this.result.is_some());
                assert_eq!(read.offset.is_some(), release == Release::Newer, "{release}");
            }
        }
    }
}
