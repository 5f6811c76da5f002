//! Receiving in batches; offsets move only when the caller says that a batch is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use common::clock::Timestamp;
use common::config::KafkaSettings;
use common::telemetry::{BrokerState, ConsumerState};
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::{self, KafkaError};
use super::membership::{Assigned, Membership, STATISTICS_MS};

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where from.
    pub topic: String,
    /// Which partition.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
    /// When it was made, or taken by the broker, as the topic says; unknown where it is no message of a topic any more.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
}

impl Record {
    /// A header's bytes.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }
}

/// Bytes that a batch may hold before it is handed over though it is not full.
const BATCH_BYTES: usize = 8 << 20;

/// How often a consumer that gets nothing looks whether it is to be made anew.
const LOOK: Duration = Duration::from_secs(1);

/// How long [`Consumer::keep_alive`] listens.
const LISTEN: Duration = Duration::from_millis(100);

/// How long the broker may take to say what is committed, or where a partition ends.
const ASK: Duration = Duration::from_secs(5);

/// How long a client may take to begin with a partition that was assigned.
const BEGIN: Duration = Duration::from_secs(2);

/// Messages that it may set aside: usually one of each partition.
const ASIDE: usize = 64;

/// A member of a consumer group, on one topic; one that is of no more use is made anew.
pub struct Consumer {
    settings: KafkaSettings,
    group: String,
    inner: RwLock<Arc<StreamConsumer<Membership>>>,
    /// Whether its client has been told the topic.
    joined: AtomicBool,
    aside: Mutex<Aside>,
    assigned: Assigned,
    broker: BrokerState,
    state: ConsumerState,
}

/// What came while nobody asked for messages.
#[derive(Default)]
struct Aside {
    records: VecDeque<Record>,
    /// Where it came from; these partitions give no more until it is taken.
    paused: BTreeSet<i32>,
}

impl Consumer {
    /// A member of `group` for `topic`. It joins when it is asked for messages first, and once the topics that this
    /// service makes are made; it connects in the background, so no broker need be there yet.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn subscribe(
        settings: &KafkaSettings,
        group: &str,
        topic: &str,
        broker: BrokerState,
    ) -> Result<Self, KafkaError> {
        let purpose = match topic {
            topic if topic == settings.outbound_ack_topic => "acks",
            topic if topic == settings.outbound_topic => "observer",
            _ => "inbox",
        };
        Self::subscribe_as(purpose, settings, group, topic, broker)
    }

    /// The same of a topic that is not the loop's, called `purpose` where consumers are reported.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn subscribe_as(
        purpose: &'static str,
        settings: &KafkaSettings,
        group: &str,
        topic: &str,
        broker: BrokerState,
    ) -> Result<Self, KafkaError> {
        let state = broker.consumer(purpose, topic, group);
        let assigned = Assigned::default();
        let membership = Membership {
            broker: broker.clone(),
            state: state.clone(),
            client: 0,
            assigned: assigned.clone(),
        };
        let inner = RwLock::new(Arc::new(create(settings, group, membership)?));
        let (settings, group) = (settings.clone(), group.to_owned());
        let (joined, aside) = Default::default();
        Ok(Self { settings, group, inner, joined, aside, assigned, broker, state })
    }

    /// The next messages: waits for the first, then at most `linger` for up to `max` of them. None, if partitions were
    /// assigned meanwhile that nobody has taken from [`Consumer::assigned`].
    ///
    /// Cancel-safe in the sense that matters here: what was taken and not committed comes again.
    pub async fn next_batch(&self, max: usize, linger: Duration) -> Vec<Record> {
        let Some(first) = self.next_unless_assigned().await else { return Vec::new() };
        let mut batch = vec![first];
        self.fill(&mut batch, max, linger).await;
        batch
    }

    /// A few messages more for `batch`, if they come within `linger`: at least one, however full it is, and to ask keeps
    /// the member in its group.
    pub async fn more(&self, batch: &mut Vec<Record>, max: usize, linger: Duration) {
        if let Ok(record) = timeout(linger, self.next()).await {
            batch.push(record);
            self.fill(batch, max, linger).await;
        }
    }

    /// Up to `max` messages, or [`BATCH_BYTES`], with those that come within `linger`.
    async fn fill(&self, batch: &mut Vec<Record>, max: usize, linger: Duration) {
        let bytes = |record: &Record| record.payload.as_ref().map_or(0, Vec::len);
        // The first is taken whatever its size, and counts for nothing.
        let mut size: usize = batch.iter().skip(1).map(bytes).sum();
        let deadline = Instant::now() + linger;
        while batch.len() < max && size < BATCH_BYTES {
            let Ok(record) = timeout_at(deadline, self.next()).await else {
                break;
            };
            size += bytes(&record);
            batch.push(record);
        }
    }

    /// Says to the group that the caller, who is busy with a batch for long, lives; this also lets its client tell how it
    /// fares. Takes a tenth of a second. A message that comes meanwhile begins the next batch.
    pub async fn keep_alive(&self) {
        let inner = self.inner();
        let deadline = Instant::now() + LISTEN;
        // With too many set aside it leaves its group at last, and gets them again.
        while Instant::now() < deadline && self.aside().records.len() < ASIDE {
            match timeout_at(deadline, inner.recv()).await {
                Ok(Ok(message)) => {
                    self.state.received();
                    self.set_aside(&inner, record(&message));
                }
                Ok(Err(error)) => tracing::debug!(%error, "nothing could be received"),
                Err(_quiet) => {}
            }
        }
        self.renew_if_due(inner);
    }

    /// Keeps `record`, and has its partition give no more: what its client holds of that is fetched again later.
    fn set_aside(&self, inner: &StreamConsumer<Membership>, record: Record) {
        let partition = record.partition;
        {
            let mut aside = self.aside();
            aside.records.push_back(record);
            aside.paused.insert(partition);
        }
        if let Err(error) = inner.pause(&self.partitions([partition])) {
            tracing::debug!(%error, partition, "a partition can't be paused");
        }
    }

    /// The first message that was set aside; after the last one, their partitions go on.
    fn take_aside(&self) -> Option<Record> {
        let (record, paused) = {
            let mut aside = self.aside();
            let record = aside.records.pop_front()?;
            let is_last = aside.records.is_empty();
            (record, if is_last { std::mem::take(&mut aside.paused) } else { BTreeSet::new() })
        };
        self.resume(paused);
        Some(record)
    }

    /// Lets partitions give messages again; also those that another member has by now: they may come back.
    fn resume(&self, paused: BTreeSet<i32>) {
        if !paused.is_empty()
            && let Err(error) = self.inner().resume(&self.partitions(paused))
        {
            tracing::warn!(%error, "partitions can't be resumed");
        }
    }

    /// Drops what was set aside of `partition`.
    pub(crate) fn drop_aside(&self, partition: i32) {
        let paused = {
            let mut aside = self.aside();
            aside.records.retain(|record| record.partition != partition);
            let is_last = aside.records.is_empty();
            if is_last { std::mem::take(&mut aside.paused) } else { BTreeSet::new() }
        };
        self.resume(paused);
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partitions(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(self.state.topic(), partition);
        }
        list
    }

    /// Joins the group, if that was not done yet.
    async fn join_once(&self) {
        if self.joined.load(Ordering::Relaxed) {
            return;
        }
        self.broker.until_topics_made().await;
        match join(&self.inner(), self.state.topic()) {
            Ok(()) => self.joined.store(true, Ordering::Relaxed),
            // It is tried again after each look.
            Err(error) => tracing::error!(%error, "the consumer can't join its group"),
        }
    }

    async fn next(&self) -> Record {
        loop {
            if let Some(record) = self.look_once().await {
                return record;
            }
        }
    }

    /// The next message; none, if partitions are to be looked at before.
    async fn next_unless_assigned(&self) -> Option<Record> {
        loop {
            let record = self.look_once().await;
            if record.is_some() || self.assigned.any() {
                return record;
            }
        }
    }

    /// A message, if one comes within a while.
    async fn look_once(&self) -> Option<Record> {
        if let Some(record) = self.take_aside() {
            return Some(record);
        }
        self.join_once().await;
        let inner = self.inner();
        match timeout(LOOK, inner.recv()).await {
            Ok(Ok(message)) => {
                self.broker.up();
                self.state.received();
                return Some(record(&message));
            }
            // What it means was noted by the membership; librdkafka mends by itself what it can.
            Ok(Err(error)) => {
                tracing::debug!(%error, "nothing could be received");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_quiet) => {}
        }
        self.renew_if_due(inner);
        None
    }

    /// Partitions that were assigned since this was asked last: what is committed of them by now was answered by this
    /// service or another instance of it.
    pub fn assigned(&self) -> BTreeSet<i32> {
        self.assigned.take()
    }

    /// Has [`Consumer::assigned`] tell of `partitions` once more.
    pub fn look_again(&self, partitions: BTreeSet<i32>) {
        self.assigned.add(partitions.into_iter());
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.state.topic()
    }

    /// The offsets that the group has committed of `partitions`, where it has.
    ///
    /// # Errors
    /// When the broker does not say so in time.
    pub async fn committed(
        &self,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let (inner, list) = (self.inner(), self.partitions(partitions.iter().copied()));
        let ask = move || inner.committed_offsets(list, ASK);
        let answered = blocking("offsets can't be asked for", ask).await?;
        let offset =
            |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
                .offset()
            {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            };
        Ok(answered.elements().into_iter().filter_map(offset).collect())
    }

    /// Where a partition ends: the offset that its next message will have.
    ///
    /// # Errors
    /// When the broker does not say so in time.
    pub async fn end_of(&self, partition: i32) -> Result<i64, KafkaError> {
        let (inner, topic) = (self.inner(), self.topic().to_owned());
        let ask = move || inner.fetch_watermarks(&topic, partition, ASK);
        Ok(blocking("the end of a partition can't be asked for", ask).await?.1)
    }

    /// The partitions that are assigned to it now.
    ///
    /// # Errors
    /// When its client does not say so.
    pub fn held(&self) -> Result<BTreeSet<i32>, KafkaError> {
        let held = self.inner().assignment();
        let held = held.map_err(KafkaError::during("what is assigned is not known"))?;
        let elements = held.elements_for_topic(self.topic());
        Ok(elements.iter().map(|element| element.partition()).collect())
    }

    /// Reads an assigned partition from `offset` on, 0 being wherever it begins; what was taken of it and lies behind that
    /// comes again.
    ///
    /// # Errors
    /// When its client does not read that partition, also not a moment later.
    pub async fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let place = if offset == 0 { Offset::Beginning } else { Offset::Offset(offset) };
        let deadline = Instant::now() + BEGIN;
        loop {
            let (inner, topic) = (self.inner(), self.topic().to_owned());
            let ask = move || inner.seek(&topic, partition, place, ASK);
            match blocking("a partition can't be read from another place", ask).await {
                Ok(()) => break,
                Err(error) if Instant::now() >= deadline => return Err(error),
                // It has to ask the group first where to read a partition that it was just assigned.
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        self.drop_aside(partition);
        Ok(())
    }

    /// Puts a new client in the place of `old` when what it met can't end otherwise.
    fn renew_if_due(&self, old: Arc<StreamConsumer<Membership>>) {
        let Some(client) = self.state.renew() else { return };
        tracing::info!(topic = self.state.topic(), group = self.group, "the consumer is made anew");
        let (broker, state, assigned) =
            (self.broker.clone(), self.state.clone(), self.assigned.clone());
        let membership = Membership { broker, state, client, assigned };
        let fresh = create(&self.settings, &self.group, membership);
        match fresh.and_then(|fresh| join(&fresh, self.state.topic()).map(|()| fresh)) {
            Ok(fresh) => {
                *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                // It begins where was committed, so it gets that again.
                *self.aside() = Aside::default();
                // It leaves its group, which takes a while.
                tokio::task::spawn_blocking(move || drop(old));
            }
            Err(error) => {
                tracing::error!(%error, "no new consumer can be made; it is tried again");
                self.state.not_renewed();
            }
        }
    }

    fn inner(&self) -> Arc<StreamConsumer<Membership>> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that `batch` is done, so that it does not come again.
    pub fn commit(&self, batch: &[Record], how: CommitMode) {
        self.commit_of(batch, |_| true, how);
    }

    /// The same of the partitions of `batch` that are `done` alone.
    pub fn commit_of(&self, batch: &[Record], done: impl Fn(i32) -> bool, how: CommitMode) {
        let offsets = next_offsets(batch.iter().filter(|record| done(record.partition)));
        if offsets.count() == 0 {
            return;
        }
        if let Err(error) = self.inner().commit(&offsets, how) {
            // After a rebalance the partition is another's by now; it gets the same messages, as duplicates.
            tracing::warn!(%error, "offsets were not committed; the messages may come again");
        }
    }
}

/// Asks the broker, which may take a while, off the async threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    ask: impl FnOnce() -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let failed = |_| rdkafka::error::KafkaError::Canceled;
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(failed)
        .and_then(|answer| answer)
        .map_err(KafkaError::during(what))
}

fn create(
    settings: &KafkaSettings,
    group: &str,
    membership: Membership,
) -> Result<StreamConsumer<Membership>, KafkaError> {
    let mut config = client::base(settings, group);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A group that is new reads from the beginning: what was sent before it is for it too.
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "10000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("fetch.wait.max.ms", "20")
        .set("queued.max.messages.kbytes", "16384");
    let mut config = client::with_properties(config, settings);
    // After the user's properties: without it nothing would be known of an idle consumer.
    config.set("statistics.interval.ms", STATISTICS_MS);
    config.create_with_context(membership).map_err(KafkaError::during("the consumer can't be made"))
}

fn join(consumer: &StreamConsumer<Membership>, topic: &str) -> Result<(), KafkaError> {
    consumer.subscribe(&[topic]).map_err(KafkaError::during("the topic can't be subscribed to"))
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_owned()))
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: sent_at(message),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

fn sent_at(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
}

fn next_offsets<'a>(batch: impl IntoIterator<Item = &'a Record>) -> TopicPartitionList {
    // The last one stands: where a client was made anew it repeats what follows, and in a topic that was made anew
    // offsets are smaller than before.
    let mut next: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for record in batch {
        next.insert((record.topic.as_str(), record.partition), record.offset + 1);
    }
    let mut offsets = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        // An offset that can't be set is one whose message comes again.
        let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(offset));
    }
    offsets
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::kafka::{EmbeddedBroker, Message, Producer};

    const TOPIC: &str = "events";

    fn settings(broker: &EmbeddedBroker) -> KafkaSettings {
        KafkaSettings {
            brokers: broker.brokers(),
            outbound_topic: TOPIC.to_owned(),
            outbound_ack_topic: "acks".to_owned(),
            outbound_consumer: "order-service".to_owned(),
            inbound_topic: String::new(),
            inbound_ack_topic: String::new(),
            partitions: 1,
            replication: 1,
            min_insync_replicas: -1,
            retention: Duration::from_secs(86_400),
            create_topics: false,
            properties: BTreeMap::new(),
        }
    }

    fn message(n: usize) -> Message {
        Message {
            topic: TOPIC.to_owned(),
            partition: Some(0),
            key: n.to_string(),
            headers: Vec::new(),
            payload: Vec::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_while_a_batch_lasts_comes_after_it() {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic(TOPIC, 1).unwrap();
        let settings = settings(&broker);
        let producer = Producer::new(&settings, "test", BrokerState::default()).unwrap();
        let messages: Vec<Message> = (0..5).map(message).collect();
        let sent = producer.send_all(&messages).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        let consumer = Consumer::subscribe(&settings, "g", TOPIC, BrokerState::default()).unwrap();
        let mut offsets = Vec::new();
        let received = async {
            while offsets.len() < 5 {
                let batch = consumer.next_batch(2, Duration::from_millis(1)).await;
                offsets.extend(batch.iter().map(|record| record.offset));
                for _ in 0..3 {
                    consumer.keep_alive().await;
                }
                assert!(consumer.aside().records.len() <= 1, "a message of each partition");
            }
        };
        timeout(Duration::from_secs(60), received).await.unwrap();
        assert_eq!(offsets, [0, 1, 2, 3, 4], "in order, none twice");
    }

    #[test]
    fn the_last_message_of_a_partition_is_committed() {
        let record = |partition, offset| Record {
            topic: TOPIC.to_owned(),
            partition,
            offset,
            timestamp: None,
            key: None,
            headers: Vec::new(),
            payload: None,
        };
        let offsets = next_offsets(&[record(0, 7), record(1, 2), record(0, 5), record(0, 6)]);
        let of = |partition| offsets.find_partition(TOPIC, partition).unwrap().offset();
        assert_eq!((of(0), of(1)), (Offset::Offset(7), Offset::Offset(3)));
    }
}
