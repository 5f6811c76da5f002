//! Messages that nobody should send: poison, answers that were forged or come again, and copies of everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use uuid::Builder;

use super::readers::{PARTITIONS, TOPICS, client, is_of_answers};
use crate::topics::ORDERS;

/// The header of what is a copy already.
const COPY: &str = "stockloopcopy";

/// Messages of a topic that are sent again, at the most.
const REPLAYED: usize = 200;

const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a whole backlog may take to be taken, and for each message more.
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(300);
const BACKLOG_PACE: Duration = Duration::from_millis(1);

/// As much of it, in KiB, is on its way at once, at the most.
const BACKLOG_QUEUE_KIB: &str = "65536";

/// How long a sender waits that has as much on its way as it may.
const FULL: Duration = Duration::from_millis(10);

/// How long a message is waited for.
const LOOK: Duration = Duration::from_millis(200);

type Sender = ThreadedProducer<DefaultProducerContext>;

/// Sends poison to each partition of each topic.
pub(super) fn send_nonsense(brokers: &str, seed: u64) -> Result<()> {
    let (sender, mut random): (Sender, _) =
        (client(brokers).create()?, StdRng::seed_from_u64(seed));
    for (topic, _) in TOPICS {
        let event_type = match topic {
            ORDERS => "stockloop.order.placed",
            _ => "stockloop.inventory.changed",
        };
        for partition in 0..PARTITIONS {
            for (headers, payload) in poisons(event_type, &mut random) {
                send(&sender, topic, partition, headers, payload.as_deref())?;
            }
        }
    }
    sender.flush(TIMEOUT).context("the broker does not take everything")
}

/// Headers and a payload.
type Poison = (OwnedHeaders, Option<Vec<u8>>);

fn poisons(event_type: &str, random: &mut StdRng) -> Vec<Poison> {
    let mut id = || Builder::from_random_bytes(random.random()).into_uuid().to_string();
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let none = OwnedHeaders::new;
    vec![
        (none(), Some(b"\x00\xff\xfegarbage".to_vec())),
        (none(), None),
        (none(), bytes("{\"acks\": \"none\"}")),
        (none(), bytes("{\"acks\": [{}]}")),
        (none(), Some(vec![b'['; 100_000])),
        (envelope("no-uuid", event_type), bytes("{}")),
        (envelope(&id(), event_type), bytes("{not json")),
        (envelope(&id(), event_type), None),
        (envelope(&id(), event_type), Some(vec![0xff; 500_000])),
        (envelope(&id(), "somebody.elses"), bytes("{}")),
    ]
}

fn envelope(id: &str, event_type: &str) -> OwnedHeaders {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "/somebody"),
        ("ce_type", event_type),
        ("ce_subject", "EVIL"),
        ("ce_time", "2026-01-05T12:00:00Z"),
        ("content-type", "application/json"),
        ("stockloopattempt", "1"),
        ("stockloopepoch", "1"),
    ];
    headers.into_iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header { key, value: Some(value) })
    })
}

/// Sends answers again that are on the topics already, the same in the name of a stranger, and answers of the right service
/// to events that nobody sent; returns how many messages of answers there were.
pub(super) fn send_forged_answers(brokers: &str, seed: u64) -> Result<u64> {
    let (sender, mut random): (Sender, _) =
        (client(brokers).create()?, StdRng::seed_from_u64(seed));
    let mut found = 0;
    for (topic, _) in TOPICS.into_iter().filter(|(topic, _)| is_of_answers(topic)) {
        for message in newest(brokers, topic)? {
            found += 1;
            let headers = message.headers().cloned().unwrap_or_else(OwnedHeaders::new);
            let payload = message.payload().unwrap_or_default();
            send(&sender, topic, message.partition(), headers.clone(), Some(payload))?;
            let Ok(answers) = serde_json::from_slice::<Value>(payload) else { continue };
            let unknown = || Builder::from_random_bytes(random.random()).into_uuid().to_string();
            for forged in forge(&answers, unknown) {
                let forged = forged.to_string();
                send(
                    &sender,
                    topic,
                    message.partition(),
                    headers.clone(),
                    Some(forged.as_bytes()),
                )?;
            }
        }
    }
    sender.flush(TIMEOUT).context("the broker does not take everything")?;
    Ok(found)
}

/// The same answers of a stranger, and answers of the same service about events that are unknown.
fn forge(answers: &Value, mut unknown: impl FnMut() -> String) -> [Value; 2] {
    let foreign = with_each(answers, "consumer", || "a-stranger".to_owned());
    [foreign, with_each(answers, "event_id", &mut unknown)]
}

/// The same answers, each with this field.
fn with_each(answers: &Value, field: &str, mut value: impl FnMut() -> String) -> Value {
    let mut changed = answers.clone();
    let all = changed.get_mut("acks").and_then(Value::as_array_mut);
    for answer in all.into_iter().flatten().filter_map(Value::as_object_mut) {
        answer.insert(field.to_owned(), json!(value()));
    }
    changed
}

/// The newest messages of a topic.
fn newest(brokers: &str, topic: &str) -> Result<Vec<OwnedMessage>> {
    let reader: BaseConsumer = client(brokers)
        .set("group.id", "chaos-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let each = i64::try_from(REPLAYED)? / i64::from(PARTITIONS);
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::OffsetTail(each))?;
    }
    reader.assign(&list)?;
    let (mut messages, mut ended) = (Vec::new(), 0);
    while ended < PARTITIONS && messages.len() < REPLAYED {
        match reader.poll(TIMEOUT) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => {
                return Err(error).with_context(|| format!("{topic} can't be read"));
            }
            None => return Err(anyhow!("{topic} can't be read to its end")),
        }
    }
    Ok(messages)
}

/// Sends messages that are on product-service's topic already again and again, until so many were sent.
pub(super) fn pile_up(brokers: &str, many: u32) -> Result<u64> {
    let [(topic, _), ..] = TOPICS;
    let messages = newest(brokers, topic)?;
    ensure!(!messages.is_empty(), "{topic} has no message that could be sent again");
    let sender: Sender =
        client(brokers).set("queue.buffering.max.kbytes", BACKLOG_QUEUE_KIB).create()?;
    let (began, patience) = (Instant::now(), BACKLOG_TIMEOUT + BACKLOG_PACE * many);
    for message in messages.iter().cycle().take(usize::try_from(many)?) {
        let mut record = copy_of(message);
        while let Err((error, again)) = sender.send(record) {
            let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            ensure!(is_full && began.elapsed() < patience, "{topic} takes no more: {error}");
            thread::sleep(FULL);
            record = again;
        }
    }
    sender.flush(BACKLOG_TIMEOUT).context("the broker does not take everything")?;
    Ok(u64::from(many))
}

/// A thread that sends each message of each topic up to four times more, until this value is dropped.
pub(super) struct Duplicator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Duplicator {
    /// Each copy comes so much later, at the most, and in any order; what is still to come at the end comes then.
    pub(super) fn start(brokers: &str, seed: u64, late_ms: u64) -> Result<Self> {
        let reader: BaseConsumer = client(brokers)
            .set("group.id", "chaos-duplicator")
            .set("auto.offset.reset", "earliest")
            .create()?;
        reader.subscribe(&TOPICS.map(|(topic, _)| topic))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut copier = Copier {
            sender: client(brokers).create()?,
            copies: 0,
            random: StdRng::seed_from_u64(seed),
            late_ms,
            later: BTreeMap::new(),
            made: 0,
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // An error passes, or the copies are fewer.
                if let Some(Ok(message)) = reader.poll(LOOK) {
                    copier.take(&message.detach());
                }
                copier.send_until(Instant::now());
            }
            copier.send_all();
            copier.copies
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it; returns how many copies the broker was given.
    pub(super) fn finish(mut self) -> u64 {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Duplicator {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Copies that wait, at the most; beyond that, the next one is sent early.
const LATER: usize = 10_000;

/// Makes copies and sends them when they are due.
struct Copier {
    sender: Sender,
    /// Those that were sent.
    copies: u64,
    random: StdRng,
    late_ms: u64,
    /// By when they are due, and a number that tells them apart.
    later: BTreeMap<(Instant, u64), OwnedMessage>,
    made: u64,
}

impl Copier {
    /// Makes some copies of `message`, unless it is one.
    fn take(&mut self, message: &OwnedMessage) {
        let is_copy = |header: Header<'_, &[u8]>| header.key == COPY;
        if message.headers().is_some_and(|headers| headers.iter().any(is_copy)) {
            return;
        }
        for _ in 0..self.random.random_range(0..=4) {
            let late = Duration::from_millis(self.random.random_range(0..=self.late_ms));
            self.made += 1;
            self.later.insert((Instant::now() + late, self.made), message.clone());
        }
        while self.later.len() > LATER {
            self.send_next();
        }
    }

    fn send_until(&mut self, now: Instant) {
        while self.later.first_key_value().is_some_and(|((due, _), _)| *due <= now) {
            self.send_next();
        }
    }

    fn send_all(&mut self) {
        while !self.later.is_empty() {
            self.send_next();
        }
        // What does not leave by then is a copy less.
        let _ = self.sender.flush(TIMEOUT);
    }

    fn send_next(&mut self) {
        let Some((_, message)) = self.later.pop_first() else { return };
        if self.sender.send(copy_of(&message)).is_ok() {
            self.copies += 1;
        }
    }
}

/// The same message for the same partition, marked as what it is.
fn copy_of(message: &OwnedMessage) -> BaseRecord<'_, [u8], [u8]> {
    let headers = message.headers().cloned().unwrap_or_else(OwnedHeaders::new);
    BaseRecord {
        topic: message.topic(),
        partition: Some(message.partition()),
        payload: message.payload(),
        key: message.key(),
        timestamp: None,
        headers: Some(headers.insert(Header { key: COPY, value: Some("yes") })),
        delivery_opaque: (),
    }
}

fn send(
    sender: &Sender,
    topic: &str,
    partition: i32,
    headers: OwnedHeaders,
    payload: Option<&[u8]>,
) -> Result<()> {
    let mut record: BaseRecord<'_, str, [u8]> =
        BaseRecord::to(topic).key("key").partition(partition).headers(headers);
    record.payload = payload;
    sender.send(record).map_err(|(error, _)| error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_answers_are_of_a_stranger_or_about_nothing() {
        let answers = json!({ "acks": [
            { "event_id": "a", "consumer": "order-service", "outcome": "SUCCESS" },
            { "event_id": "b", "consumer": "order-service", "outcome": "FAILED" },
        ]});
        let [foreign, unfounded] = forge(&answers, || "none".to_owned());
        assert_eq!(foreign["acks"][1]["event_id"], "b");
        assert_eq!(foreign["acks"][1]["consumer"], "a-stranger");
        assert_eq!(unfounded["acks"][0]["event_id"], "none");
        assert_eq!(unfounded["acks"][0]["consumer"], "order-service");
        let nothing = json!("no answers");
        assert_eq!(forge(&nothing, String::new), [nothing.clone(), nothing]);
    }
}
