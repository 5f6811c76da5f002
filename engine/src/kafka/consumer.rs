//! Receiving in batches; offsets move only when the caller says that a batch is done.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::{BrokerState, ConsumerState};
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::{self, KafkaError};
use super::membership::{Membership, STATISTICS_MS};

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where from.
    pub topic: String,
    /// Which partition.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
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

/// A member of a consumer group, on one topic; one that is of no more use is made anew.
pub struct Consumer {
    settings: KafkaSettings,
    group: String,
    inner: RwLock<Arc<StreamConsumer<Membership>>>,
    broker: BrokerState,
    state: ConsumerState,
}

impl Consumer {
    /// Joins `group` for `topic`; it connects in the background, so no broker need be there yet.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn subscribe(
        settings: &KafkaSettings,
        group: &str,
        topic: &str,
        broker: BrokerState,
    ) -> Result<Self, KafkaError> {
        let purpose = if topic == settings.outbound_ack_topic { "acks" } else { "inbox" };
        let state = broker.consumer(purpose, topic, group);
        let membership = Membership { broker: broker.clone(), state: state.clone(), client: 0 };
        let inner = RwLock::new(Arc::new(join(settings, group, membership)?));
        let (settings, group) = (settings.clone(), group.to_owned());
        Ok(Self { settings, group, inner, broker, state })
    }

    /// The next messages: waits for the first, then at most `linger` for up to `max` of them.
    ///
    /// Cancel-safe in the sense that matters here: what was taken and not committed comes again.
    pub async fn next_batch(&self, max: usize, linger: Duration) -> Vec<Record> {
        let mut batch = vec![self.next().await];
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

    async fn next(&self) -> Record {
        loop {
            let inner = self.inner();
            match timeout(LOOK, inner.recv()).await {
                Ok(Ok(message)) => {
                    self.broker.up();
                    self.state.received();
                    return record(&message);
                }
                // What it means was noted by the membership; librdkafka mends by itself what it can.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "nothing could be received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(_quiet) => {}
            }
            self.renew_if_due(inner);
        }
    }

    /// Puts a new client in the place of `old` when what it met can't end otherwise.
    fn renew_if_due(&self, old: Arc<StreamConsumer<Membership>>) {
        let Some(client) = self.state.renew() else { return };
        tracing::info!(topic = self.state.topic(), group = self.group, "the consumer is made anew");
        let (broker, state) = (self.broker.clone(), self.state.clone());
        match join(&self.settings, &self.group, Membership { broker, state, client }) {
            Ok(fresh) => {
                *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                // It leaves its group, which takes a while.
                tokio::task::spawn_blocking(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "no new consumer can be made"),
        }
    }

    fn inner(&self) -> Arc<StreamConsumer<Membership>> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that `batch` is done, so that it does not come again.
    pub fn commit(&self, batch: &[Record], how: CommitMode) {
        let offsets = next_offsets(batch);
        if let Err(error) = self.inner().commit(&offsets, how) {
            // After a rebalance the partition is another's by now; it gets the same messages, as duplicates.
            tracing::warn!(%error, "offsets were not committed; the messages may come again");
        }
    }
}

fn join(
    settings: &KafkaSettings,
    group: &str,
    membership: Membership,
) -> Result<StreamConsumer<Membership>, KafkaError> {
    let topic = membership.state.topic().to_owned();
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
        .set("queued.max.messages.kbytes", "16384")
        .set("statistics.interval.ms", STATISTICS_MS)
        .set("allow.auto.create.topics", "false");
    let consumer: StreamConsumer<Membership> = client::with_properties(config, settings)
        .create_with_context(membership)
        .map_err(KafkaError::during("the consumer can't be made"))?;
    consumer
        .subscribe(&[topic.as_str()])
        .map_err(KafkaError::during("the topic can't be subscribed to"))?;
    Ok(consumer)
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
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

fn next_offsets(batch: &[Record]) -> TopicPartitionList {
    // Later records of a partition come later, so the last one stands.
    let next: BTreeMap<(String, i32), Offset> = batch
        .iter()
        .map(|r| ((r.topic.clone(), r.partition), Offset::Offset(r.offset + 1)))
        .collect();
    let mut offsets = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        // An offset that can't be set is one whose message comes again.
        let _ = offsets.add_partition_offset(&topic, partition, offset);
    }
    offsets
}
