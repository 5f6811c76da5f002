//! Stands in for order-service: answers SUCCESS to every event, and keeps nothing.
//!
//! So product-service does all of its work, the settlement of answers too, and little is taken from its processors.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use common::config::KafkaSettings;
use common::env::Env;
use common::telemetry::BrokerState;
use engine::kafka::{
    Ack, AckBatch, BatchLimits, Consumer, Message, Producer, Record, Verdict, sender_of,
};
use tokio::sync::oneshot;

use crate::bench::background::Background;
use crate::programs::COPY;

/// As a service has them.
const BATCH: BatchLimits = BatchLimits::new(1_000, Duration::from_millis(2)).hurried();

/// Answers on the broker of these settings, until the value is dropped.
pub(in crate::bench) fn start(settings: &KafkaSettings) -> Result<Background> {
    Background::start(|| Answerer::new(settings), Answerer::answer_until)
}

struct Answerer {
    consumer: Consumer,
    producer: Producer,
    /// Where the answers go.
    topic: String,
    env: Env,
}

impl Answerer {
    fn new(settings: &KafkaSettings) -> Result<Self> {
        let broker = BrokerState::default();
        let events = &settings.inbound_topic;
        Ok(Self {
            consumer: Consumer::subscribe(settings, COPY, events, broker.clone())?,
            producer: Producer::new(settings, COPY, broker)?,
            topic: settings.inbound_ack_topic.clone(),
            env: Env::system(),
        })
    }

    async fn answer_until(self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let records = tokio::select! {
                _ = &mut stopped => return,
                records = self.consumer.next_batch(BATCH) => records,
            };
            // It keeps no copy that could be behind what was answered before.
            self.consumer.assigned();
            let ack = |record: &Record| Some((record.partition, self.ack(record)?));
            // What does not arrive leaves its events SENT, and that is told where they are waited for.
            if let Ok(acks) = messages(records.iter().filter_map(ack), &self.topic, &self.env) {
                self.producer.send_all(&acks).await;
            }
        }
    }

    fn ack(&self, record: &Record) -> Option<Ack> {
        let sender = sender_of(record)?;
        let verdict = Verdict::Success;
        let ack = Ack::new(sender.id, sender.attempt, verdict, COPY, self.env.now());
        let applied = Ack { detail: Some("applied".to_owned()), ..ack };
        Some(applied.of_record(record))
    }
}

/// Answers of order-service for `topic`: a message for each partition that their events came from.
pub(in crate::bench) fn messages(
    acks: impl IntoIterator<Item = (i32, Ack)>,
    topic: &str,
    env: &Env,
) -> Result<Vec<Message>> {
    let mut by_partition: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
    for (partition, ack) in acks {
        by_partition.entry(partition).or_default().push(ack);
    }
    let mut messages = Vec::new();
    for (partition, acks) in by_partition {
        let (id, now, batch) = (env.event_id(), env.now(), AckBatch { acks });
        messages.push(batch.to_message(id, now, COPY, topic, partition)?);
    }
    Ok(messages)
}
