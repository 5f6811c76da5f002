//! The topics as another client of the same broker sees them.

use std::collections::BTreeSet;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use stockloop_tests::poll::eventually;

use super::settings::SystemSettings;
use super::{DEADLINE, PARTITIONS};

/// The broker and the names of what is on it.
pub(crate) struct Topics {
    settings: SystemSettings,
}

/// A message of any shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawMessage {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) payload: Option<Vec<u8>>,
}

impl Topics {
    pub(super) fn new(settings: SystemSettings) -> Self {
        Self { settings }
    }

    pub(super) fn settings(&self) -> &SystemSettings {
        &self.settings
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.settings.brokers
    }

    pub(crate) fn events(&self) -> &str {
        &self.settings.names.events
    }

    pub(crate) fn acks(&self) -> &str {
        &self.settings.names.acks
    }

    pub(crate) fn order(&self) -> &str {
        &self.settings.names.order
    }

    pub(crate) fn product(&self) -> &str {
        &self.settings.names.product
    }

    pub(crate) fn orders(&self) -> &str {
        &self.settings.names.orders
    }

    pub(crate) fn order_acks(&self) -> &str {
        &self.settings.names.order_acks
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client can be made")
    }

    /// Takes a topic away, with all that is in it.
    pub(crate) async fn delete(&self, topic: &str) {
        let done = self.admin().delete_topics(&[topic], &AdminOptions::new()).await;
        for outcome in done.expect("the broker answers") {
            outcome.expect("a topic can be deleted");
        }
    }

    /// Makes a topic; one of that name may still be on its way out.
    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        let admin = self.admin();
        eventually("a topic to be made", DEADLINE, async || {
            let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            let done = admin.create_topics(&[new], &AdminOptions::new()).await;
            let outcome = done.expect("the broker answers").remove(0);
            outcome.map(drop).map_err(|(_, code)| code.to_string())
        })
        .await;
    }

    /// Gives a topic more partitions, `partitions` in all.
    pub(crate) async fn grow(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let done = self.admin().create_partitions(&[new], &AdminOptions::new()).await;
        for outcome in done.expect("the broker answers") {
            outcome.expect("partitions can be added");
        }
    }

    /// The partitions of a topic that have a leader.
    pub(crate) fn led(&self, topic: &str) -> BTreeSet<i32> {
        let asker: BaseConsumer = self.client().create().expect("a client can be made");
        let metadata = asker.fetch_metadata(Some(topic), DEADLINE).expect("the broker answers");
        let partitions = metadata.topics().iter().flat_map(|found| found.partitions());
        partitions.filter(|one| one.leader() >= 0).map(|one| one.id()).collect()
    }

    /// How many partitions each member of `group` has, of the one topic that it reads.
    pub(crate) fn shares(&self, group: &str) -> Vec<i32> {
        let asker: BaseConsumer = self.client().create().expect("a client can be made");
        // While it is made, nothing may be known of it.
        let Ok(list) = asker.fetch_group_list(Some(group), DEADLINE) else { return Vec::new() };
        let members = list.groups().iter().flat_map(|found| found.members());
        members.map(|member| share(member.assignment().unwrap_or_default())).collect()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.brokers);
        config
    }

    /// Lets `topic` take messages, and batches of them, of at most `bytes`.
    pub(crate) async fn limit(&self, topic: &str, bytes: usize) {
        let admin = self.admin();
        let limit = bytes.to_string();
        let settings =
            AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &limit);
        let done = admin.alter_configs(&[settings], &AdminOptions::new()).await;
        for outcome in done.expect("the broker answers") {
            outcome.expect("a topic's limit can be set");
        }
    }

    /// Something that sends what nobody should.
    pub(crate) fn producer(&self) -> FutureProducer {
        self.client().set("message.max.bytes", "4000000").create().expect("a producer can be made")
    }

    /// Sends `message` and waits for the broker.
    pub(crate) async fn send(
        producer: &FutureProducer,
        topic: &str,
        partition: i32,
        message: &RawMessage,
    ) {
        let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        let mut record = FutureRecord::to(topic).key("key").partition(partition).headers(headers);
        record.payload = message.payload.as_ref();
        producer.send(record, DEADLINE).await.expect("the broker takes anything");
    }

    /// Sends a message that is on a topic to its partition once more, as it is.
    pub(crate) async fn send_again(producer: &FutureProducer, message: &OwnedMessage) {
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(message.topic()).partition(message.partition());
        record.key = message.key();
        record.payload = message.payload();
        record.headers = message.headers().cloned();
        producer.send(record, DEADLINE).await.expect("the broker takes anything");
    }

    /// All acks that are on the ack topic now.
    pub(crate) fn all_acks(&self) -> Vec<Value> {
        self.all_acks_on(self.acks())
    }

    /// All acks that are on this topic now.
    pub(crate) fn all_acks_on(&self, topic: &str) -> Vec<Value> {
        let messages = self.all_of(topic);
        let batches = messages.iter().map(|message| {
            let batch: Result<Value, _> =
                serde_json::from_slice(message.payload().unwrap_or_default());
            batch.unwrap_or_default()["acks"].as_array().cloned().unwrap_or_default()
        });
        batches.flatten().collect()
    }

    /// The attempt and the id of all events that are on the event topic now.
    pub(crate) fn all_sends(&self) -> Vec<(i32, String)> {
        let messages = self.all_of(self.events());
        let sends = messages.iter().map(|message| {
            let header = |name: &str| header_text(message.headers().expect("headers"), name);
            (header("stockloopattempt").parse().expect("a number"), header("ce_id"))
        });
        sends.collect()
    }

    /// All messages that are on any topic now, each with its topic's name in docs/asyncapi.yaml.
    pub(crate) fn all(&self) -> Vec<(&'static str, OwnedMessage)> {
        let names = &self.settings.names;
        let topics = [
            ("inventory", &names.events),
            ("inventoryAcks", &names.acks),
            ("orders", &names.orders),
            ("orderAcks", &names.order_acks),
        ];
        let all = topics.into_iter().flat_map(|(channel, topic)| {
            self.all_of(topic).into_iter().map(move |message| (channel, message))
        });
        all.collect()
    }

    /// All messages that are on a topic of as many partitions as every topic here, those of a partition in their order.
    ///
    /// Offsets do not tell how many there are: compaction leaves gaps, and transactions end with a marker.
    pub(crate) fn all_of(&self, topic: &str) -> Vec<OwnedMessage> {
        let reader: BaseConsumer = self
            .client()
            .set("group.id", "a-test-that-reads")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a reader can be made");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        reader.assign(&list).expect("partitions can be read");
        let mut left: BTreeSet<i32> = (0..PARTITIONS).collect();
        let mut messages = Vec::new();
        while !left.is_empty() {
            match reader.poll(DEADLINE).expect("a message, or the end of a partition") {
                Ok(message) => messages.push(message.detach()),
                Err(KafkaError::PartitionEOF(partition)) => {
                    left.remove(&partition);
                }
                Err(error) => panic!("{topic} can't be read: {error}"),
            }
        }
        messages
    }

    /// How many messages the event topic holds.
    pub(crate) fn events_sent(&self) -> i64 {
        let reader: BaseConsumer = self.client().create().expect("a reader can be made");
        (0..PARTITIONS).map(|partition| end_offset(&reader, self.events(), partition)).sum()
    }

    /// Has `group`, which has no member, not know how far it was: that of a crash before it was committed.
    pub(crate) async fn forget_committed(&self, group: &str, topic: &str) {
        let member: BaseConsumer =
            self.client().set("group.id", group).create().expect("a client can be made");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Offset(0)).expect("an offset");
        }
        eventually("the group to be empty", DEADLINE, async || {
            member.commit(&list, CommitMode::Sync).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Messages that `group` has not committed yet.
    pub(crate) fn uncommitted(&self, group: &str, topic: &str) -> i64 {
        let reader: BaseConsumer =
            self.client().set("group.id", group).create().expect("a reader can be made");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(topic, partition);
        }
        let committed = reader.committed_offsets(list, DEADLINE).expect("offsets can be asked for");
        let behind = committed.elements().into_iter().map(|element| {
            let done = element.offset().to_raw().unwrap_or(0).max(0);
            end_offset(&reader, topic, element.partition()) - done
        });
        behind.sum()
    }
}

/// The partitions of an assignment to a member: its version, the number of topics, and of the first of them the name with
/// its length, and the number of partitions.
fn share(assignment: &[u8]) -> i32 {
    let number = |from: usize, bytes: usize| {
        let digits = assignment.get(from..from + bytes)?;
        Some(digits.iter().fold(0_usize, |number, digit| (number << 8) | usize::from(*digit)))
    };
    let partitions = number(6, 2).and_then(|length| number(8 + length, 4));
    partitions.and_then(|partitions| i32::try_from(partitions).ok()).unwrap_or(0)
}

fn header_text(headers: &OwnedHeaders, name: &str) -> String {
    let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    String::from_utf8_lossy(found.expect("each event has it")).into_owned()
}

fn end_offset(reader: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    reader.fetch_watermarks(topic, partition, DEADLINE).expect("the end of a partition").1
}
