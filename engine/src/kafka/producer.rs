//! Sending, with the broker's confirmation for each message.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::BrokerState;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

use super::client::{self, Context, KafkaError};
use super::consumer::Record;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// Which partition of it; `None` leaves it to the key.
    pub partition: Option<i32>,
    /// Its key.
    pub key: String,
    /// Its headers, in order.
    pub headers: Vec<(&'static str, String)>,
    /// Its value.
    pub payload: Vec<u8>,
}

/// Why a message was not confirmed.
#[derive(Debug, Clone, Error)]
pub enum SendError {
    /// This message can't be produced, ever; others can.
    #[error("the broker takes no such message: {0}; it may be larger than message.max.bytes")]
    Message(String),
    /// The broker, the network or the queue: the same message may pass later.
    #[error("the broker did not take it: {0}")]
    Broker(String),
}

/// An idempotent producer that waits for all in-sync replicas; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    settings: KafkaSettings,
    client_id: String,
    inner: Arc<RwLock<FutureProducer<Context>>>,
    broker: BrokerState,
}

/// How long librdkafka tries to deliver a message before it gives it back.
const DELIVERY_TIMEOUT_MS: &str = "10000";

impl Producer {
    /// A producer; it connects in the background, so no broker need be there yet.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn new(
        settings: &KafkaSettings,
        client_id: &str,
        broker: BrokerState,
    ) -> Result<Self, KafkaError> {
        let inner = create(settings, client_id, &broker)?;
        Ok(Self {
            settings: settings.clone(),
            client_id: client_id.to_owned(),
            inner: Arc::new(RwLock::new(inner)),
            broker,
        })
    }

    /// Sends `messages` and returns, in order, what became of each.
    ///
    /// Returns once each is confirmed or given up, at the latest after the delivery timeout.
    pub async fn send_all(&self, messages: &[Message]) -> Vec<Result<(), SendError>> {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let queued: Vec<_> = messages.iter().map(|message| enqueue(&producer, message)).collect();
        let mut sent = Vec::with_capacity(queued.len());
        for delivery in queued {
            sent.push(match delivery {
                Ok(delivery) => confirmed(delivery).await,
                Err(error) => Err(error),
            });
        }
        self.learn(&producer, &sent);
        sent
    }

    /// Sends a message that came once more, just as it was: to its partition, with its key, headers and bytes.
    ///
    /// # Errors
    /// Why the broker did not confirm it.
    pub async fn resend(&self, record: &Record) -> Result<(), SendError> {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = match queue_again(&producer, record) {
            Ok(delivery) => confirmed(delivery).await,
            Err(error) => Err(error),
        };
        self.learn(&producer, std::slice::from_ref(&sent));
        sent
    }

    fn learn(&self, producer: &FutureProducer<Context>, sent: &[Result<(), SendError>]) {
        if sent.iter().any(Result::is_ok) {
            self.broker.up();
        }
        if let Some(Err(SendError::Broker(reason))) =
            sent.iter().find(|sent| matches!(sent, Err(SendError::Broker(_))))
        {
            self.broker.down(reason.clone());
        }
        // A fatal error ends an idempotent producer for good; a new one starts with a new identity.
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(?code, reason, "the producer failed for good and is made anew");
            match create(&self.settings, &self.client_id, &self.broker) {
                Ok(fresh) => {
                    *self.inner.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Err(error) => tracing::error!(%error, "no new producer can be made"),
            }
        }
    }

    /// The partitions of `topic`, or `None` while the broker can't say. Blocks for at most 5 s.
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let metadata =
            producer.client().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
        let count = i32::try_from(topic.partitions().len()).ok().filter(|count| *count > 0)?;
        self.broker.up();
        Some(count)
    }

    /// Waits until nothing is queued any more, or `timeout` is over.
    pub fn flush(&self, timeout: Duration) {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = producer.flush(timeout) {
            tracing::warn!(%error, "messages were left in the queue; they are sent again after the start");
        }
    }
}

fn create(
    settings: &KafkaSettings,
    client_id: &str,
    broker: &BrokerState,
) -> Result<FutureProducer<Context>, KafkaError> {
    let mut config = client::base(settings, client_id);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536");
    client::with_properties(config, settings)
        .create_with_context(Context { broker: broker.clone() })
        .map_err(KafkaError::during("the producer can't be made"))
}

fn enqueue(
    producer: &FutureProducer<Context>,
    message: &Message,
) -> Result<DeliveryFuture, SendError> {
    let headers = message
        .headers
        .iter()
        .fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value.as_str()) })
        });
    let mut record = FutureRecord::to(&message.topic)
        .key(&message.key)
        .headers(headers)
        .payload(&message.payload);
    record.partition = message.partition;
    producer.send_result(record).map_err(|(error, _record)| judge(&error))
}

fn queue_again(
    producer: &FutureProducer<Context>,
    record: &Record,
) -> Result<DeliveryFuture, SendError> {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    });
    let mut again: FutureRecord<'_, [u8], [u8]> =
        FutureRecord::to(&record.topic).partition(record.partition).headers(headers);
    again.key = record.key.as_deref();
    again.payload = record.payload.as_deref();
    producer.send_result(again).map_err(|(error, _record)| judge(&error))
}

async fn confirmed(delivery: DeliveryFuture) -> Result<(), SendError> {
    match delivery.await {
        Ok(Ok(_delivered)) => Ok(()),
        Ok(Err((error, _message))) => Err(judge(&error)),
        Err(_canceled) => Err(SendError::Broker("the producer was closed".to_owned())),
    }
}

/// Only what blames the message itself counts against it.
fn judge(error: &rdkafka::error::KafkaError) -> SendError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => {
            SendError::Message(error.to_string())
        }
        _ => SendError::Broker(error.to_string()),
    }
}
