//! What the broker takes: the messages of a backlog, by the project's own producer, with no service and no database.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use common::config::KafkaSettings;
use common::db::Conn;
use common::event::{Event, EventRow};
use common::ids::EventId;
use common::on;
use common::schema::outbox_event;
use common::telemetry::BrokerState;
use diesel::prelude::*;
use engine::kafka::{Envelope, Message, Producer};
use engine::outbox::{partition_of, shard_of};
use tokio::task::JoinSet;

use crate::bench::parts::PARTITIONS;
use crate::programs::OWNER;

/// Messages that are sent at the most: with more, nothing would be faster or slower.
const MOST: i64 = 50_000;

/// Messages of one partition that are on their way together.
const TOGETHER: usize = 5_000;

/// Sends messages as the relay does, a partition beside the other.
pub(in crate::bench) struct Produced {
    settings: KafkaSettings,
    /// By partition.
    messages: Vec<Arc<Vec<Message>>>,
}

impl Produced {
    /// The messages of the events that were made after `after`, for `topic`.
    pub(in crate::bench) fn of(
        conn: &mut Conn,
        after: EventId,
        settings: &KafkaSettings,
        topic: &str,
    ) -> Result<Self> {
        use outbox_event as e;
        let first = e::table.filter(e::id.gt(after)).order(e::id).limit(MOST);
        let rows: Vec<EventRow> = on!(conn, c => first.select(EventRow::as_select()).load(c))?;
        let mut messages: Vec<Vec<Message>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
        for row in rows {
            let partition = partition_of(shard_of(&row.key), PARTITIONS);
            let of_partition = usize::try_from(partition).ok().and_then(|at| messages.get_mut(at));
            let of_partition = of_partition.context("there is no such partition")?;
            of_partition.push(message(row, topic, partition));
        }
        let messages = messages.into_iter().map(Arc::new).collect();
        Ok(Self { settings: settings.clone(), messages })
    }

    /// Messages a second, until the last is confirmed.
    pub(in crate::bench) async fn rate(&self) -> Result<f64> {
        let producer = Producer::new(&self.settings, "benchmark", BrokerState::default())?;
        // It connects, and learns of the partitions.
        let first: Vec<Message> =
            self.messages.iter().filter_map(|messages| messages.first().cloned()).collect();
        send(&producer, &first).await?;
        let (began, mut sending) = (Instant::now(), JoinSet::new());
        for messages in &self.messages {
            let (producer, messages) = (producer.clone(), Arc::clone(messages));
            sending.spawn(async move {
                for together in messages.chunks(TOGETHER) {
                    send(&producer, together).await?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(ended) = sending.join_next().await {
            ended??;
        }
        let sent: usize = self.messages.iter().map(|messages| messages.len()).sum();
        Ok(sent as f64 / began.elapsed().as_secs_f64())
    }
}

async fn send(producer: &Producer, messages: &[Message]) -> Result<()> {
    for sent in producer.send_all(messages).await {
        sent.context("the broker does not take a message of the limit")?;
    }
    Ok(())
}

/// As the relay makes it, for a first attempt.
pub(super) fn message(row: EventRow, topic: &str, partition: i32) -> Message {
    let event = Event {
        id: row.id,
        event_type: row.event_type,
        key: row.key,
        epoch: row.epoch,
        attempt: 1,
        time: row.created_us,
        traceparent: row.traceparent,
        data: row.payload.into_bytes(),
    };
    Envelope { source: format!("/{OWNER}"), event }.into_message(topic, partition)
}
