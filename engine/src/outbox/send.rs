//! One send: the messages of one partition, on their way to the broker.

use common::clock::Timestamp;
use common::event::Event;
use common::telemetry::{Delivery, Span, Step};
use futures::future::BoxFuture;

use super::log::Place;
use super::position::ReadState;
use super::relay::RelayParts;
use super::store::DueRow;
use crate::kafka::{Envelope, Message, Offset, Producer, SendError};

/// What the broker said of each message.
pub type SendResults = Vec<Result<Offset, SendError>>;

/// What brings a relay's events to the broker.
pub trait EventSender: Send + Sync + 'static {
    /// See [`Producer::send_all`].
    fn send_all<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, SendResults>;

    /// See [`Producer::partitions`]; it blocks nobody.
    ///
    /// # Errors
    /// Why the broker can't say.
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, String>>;
}

impl EventSender for Producer {
    fn send_all<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, SendResults> {
        Box::pin(Producer::send_all(self, messages))
    }

    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<i32, String>> {
        let (producer, topic) = (self.clone(), topic.to_owned());
        let ask = move || Producer::partitions(&producer, &topic);
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(ask).await;
            asked.map_err(|error| error.to_string()).flatten()
        })
    }
}

/// Events that were sent to one partition.
#[derive(Debug)]
pub(super) struct PartitionSend {
    pub(super) partition: i32,
    /// As they were read.
    pub(super) rows: Vec<DueRow>,
    /// In the order of `rows`.
    pub(super) results: SendResults,
    /// When they were handed to the producer.
    pub(super) at: Timestamp,
    pub(super) origin: Origin,
}

impl PartitionSend {
    /// One that is given up before it begins: what went to the partition before it met `trouble`.
    pub(super) fn not_begun(
        partition: i32,
        rows: Vec<DueRow>,
        origin: Origin,
        trouble: &SendError,
    ) -> Self {
        let results = rows.iter().map(|_| Err(trouble.clone())).collect();
        Self { partition, rows, results, at: Timestamp::default(), origin }
    }

    /// Why the broker did not take all of it, if others can be sent to the partition later.
    pub(super) fn trouble(&self) -> Option<&SendError> {
        let failures = self.results.iter().filter_map(|result| result.as_ref().err());
        failures.into_iter().find(|error| matches!(error, SendError::Broker(_)))
    }
}

/// How events came to the relay.
#[derive(Debug)]
pub(super) enum Origin {
    /// From the table, by a read of which this is known.
    Table(ReadState),
    /// By the log, each from its place there.
    Log(Vec<Place>),
}

impl Default for Origin {
    /// From the table, by a read that says nothing of others.
    fn default() -> Self {
        Self::Table(ReadState::default())
    }
}

impl RelayParts {
    /// Sends `rows` to `partition`, each as its next attempt.
    pub(super) async fn send(
        &self,
        partition: i32,
        mut rows: Vec<DueRow>,
        origin: Origin,
    ) -> PartitionSend {
        let at = self.env.now();
        let spans = self.begin_spans(&mut rows, partition);
        let messages: Vec<Message> = rows.iter().map(|row| self.message(row, partition)).collect();
        let results = self.producer.send_all(&messages).await;
        self.end_spans(spans, &results);
        PartitionSend { partition, rows, results, at, origin }
    }

    /// The spans of those whose trace is recorded, by their place; their messages go on from there.
    fn begin_spans(&self, rows: &mut [DueRow], partition: i32) -> Vec<(usize, Span)> {
        let begin = |(place, row): (usize, &mut DueRow)| {
            let mut traceparent = row.traceparent.take();
            let about = || Delivery {
                id: row.id,
                key: row.key.clone(),
                attempt: row.attempt + 1,
                topic: self.topic.clone(),
                partition: Some(partition),
            };
            let span = self.spans.begin(Step::Send, &mut traceparent, about);
            row.traceparent = traceparent;
            Some((place, span?))
        };
        rows.iter_mut().enumerate().filter_map(begin).collect()
    }

    fn end_spans(&self, spans: Vec<(usize, Span)>, results: &[Result<Offset, SendError>]) {
        for (place, span) in spans {
            let failure = results.get(place).and_then(|result| result.as_ref().err());
            self.spans.end(span, failure.map(ToString::to_string).as_deref());
        }
    }

    fn message(&self, row: &DueRow, partition: i32) -> Message {
        let event = Event {
            id: row.id,
            event_type: row.event_type.clone(),
            key: row.key.clone(),
            epoch: row.epoch,
            attempt: row.attempt + 1,
            time: row.created_us,
            traceparent: row.traceparent.clone(),
            data: row.payload.clone().into_bytes(),
        };
        Envelope { source: format!("/{}", self.service), event }
            .into_message(&self.topic, partition)
    }
}
