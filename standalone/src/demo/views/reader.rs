//! Reads the views' topics.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use common::config::KafkaSettings;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::{Instant, sleep, timeout};

use super::expected::Rows;
use super::java::JavaProgram;

/// How long nothing may come, where something is missing.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long something may come.
const MOST: Duration = Duration::from_secs(1_800);
/// As long as messages follow each other, nothing is compared.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// A reader of topics with a message per key that counts, the last.
pub(super) struct Reader {
    consumer: StreamConsumer,
    /// The last value of each key, by topic.
    topics: BTreeMap<String, Rows>,
}

impl Reader {
    /// Reads all partitions from their beginning, in no group.
    pub(super) fn new(kafka: &KafkaSettings, topics: &[String]) -> anyhow::Result<Self> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..kafka.partitions {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            // It has to name a group, and does not join it.
            .set("group.id", "stockloop-demo")
            .set("enable.auto.commit", "false")
            .create()
            .context("the views can't be read")?;
        consumer.assign(&list).context("the views can't be read")?;
        Ok(Self { consumer, topics: BTreeMap::new() })
    }

    /// The last value of each key of a topic.
    pub(super) fn rows(&self, topic: &str) -> Rows {
        self.topics.get(topic).cloned().unwrap_or_default()
    }

    /// Reads until `is_done`, while Flink has to run; or gives up, and returns why.
    pub(super) async fn read(
        &mut self,
        flink: &mut JavaProgram,
        is_done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<Option<String>> {
        let began = Instant::now();
        let (mut last, mut is_new) = (began, true);
        loop {
            let error = match timeout(LOOK_AFTER, self.consumer.recv()).await {
                Ok(Ok(message)) => {
                    take(&mut self.topics, &message);
                    (last, is_new) = (Instant::now(), true);
                    None
                }
                Ok(Err(error)) => Some(error),
                // What was compared already need not be compared again.
                Err(_) if std::mem::take(&mut is_new) && is_done(self) => return Ok(None),
                Err(_) => None,
            };
            if last.elapsed() > PATIENCE || began.elapsed() > MOST {
                return Ok(Some(gave_up(last.elapsed(), error.as_ref(), flink)));
            }
            flink.check()?;
            if let Some(error) = error {
                tracing::warn!(%error, "a view can't be read; trying again");
                sleep(LOOK_AFTER).await;
            }
        }
    }
}

fn gave_up(since: Duration, error: Option<&KafkaError>, flink: &JavaProgram) -> String {
    let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
    let (since, said) = (since.as_secs(), flink.last_lines());
    format!(
        "the views were not right, and nothing came for {since} s{error}; the end of what Flink said:\n{said}"
    )
}

fn take(topics: &mut BTreeMap<String, Rows>, message: &BorrowedMessage<'_>) {
    let rows = topics.entry(message.topic().to_owned()).or_default();
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    match message.payload() {
        None => drop(rows.remove(&key)),
        // What is no JSON equals nothing that is expected.
        Some(value) => drop(rows.insert(key, serde_json::from_slice(value).unwrap_or_default())),
    }
}
