//! Sending, with the broker's confirmation for each message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use common::config::KafkaSettings;
use common::telemetry::BrokerState;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

use super::client::{self, Context, KafkaError};
use super::consumer::Record;
use super::signing::{SIGNATURE, Signing};

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

/// Where in its partition a message lies; unknown where the broker had it already from a try whose answer was lost.
pub type Offset = Option<i64>;

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

/// Why a topic can't be sent to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    /// There is none of that name, or this service may not even know of it.
    #[error("the topic {0} does not exist")]
    Missing(String),
    /// The broker does not let this service use it, or can't have one of that name.
    #[error("the topic {0} can't be used: {1}")]
    Refused(String, String),
    /// The broker can't be asked.
    #[error("the topic {0} can't be looked up: {1}")]
    Away(String, String),
}

/// An idempotent producer that waits for all in-sync replicas; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    settings: KafkaSettings,
    client_id: String,
    inner: Arc<RwLock<FutureProducer<Context>>>,
    broker: BrokerState,
    purpose: Purpose,
    signing: Signing,
    /// See [`Producer::elsewhere`]; none before it was needed.
    elsewhere: Arc<OnceLock<Producer>>,
}

/// What a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// What the service sends by itself.
    Service,
    /// What goes into topics that are none of the loop's.
    Elsewhere,
}

/// How long librdkafka tries to deliver a message before it gives it back.
const DELIVERY_TIMEOUT_MS: &str = "10000";

/// How long what was refused together is sent again in halves.
const SEND_APART: Duration = Duration::from_secs(5);

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
        Self::made_for(Purpose::Service, settings, client_id, broker)
    }

    fn made_for(
        purpose: Purpose,
        settings: &KafkaSettings,
        client_id: &str,
        broker: BrokerState,
    ) -> Result<Self, KafkaError> {
        let inner = create(purpose, settings, client_id, &broker)?;
        Ok(Self {
            settings: settings.clone(),
            client_id: client_id.to_owned(),
            inner: Arc::new(RwLock::new(inner)),
            broker,
            purpose,
            signing: Signing::default(),
            elsewhere: Arc::default(),
        })
    }

    /// The same, which signs all that it sends as `signing` says; but not what it sends once more.
    #[must_use]
    pub fn signed_by(self, signing: Signing) -> Self {
        Self { signing, elsewhere: Arc::default(), ..self }
    }

    /// What it signs with.
    pub fn signing(&self) -> &Signing {
        &self.signing
    }

    /// One of its own for topics that are none of the loop's, made when it is first needed: what goes wrong there neither
    /// fills this one's queue nor ends messages of the loop, and says nothing of whether the broker is there for it. It
    /// gives a message back after ten seconds, whatever the properties say.
    ///
    /// # Errors
    /// When a property is not understood.
    pub fn elsewhere(&self) -> Result<Self, KafkaError> {
        if let Some(made) = self.elsewhere.get() {
            return Ok(made.clone());
        }
        // Nobody looks at the state of this one.
        let (settings, broker) = (&self.settings, BrokerState::default());
        let made = Self::made_for(Purpose::Elsewhere, settings, &self.client_id, broker)?
            .signed_by(self.signing.clone());
        Ok(self.elsewhere.get_or_init(|| made).clone())
    }

    /// Sends `messages` and returns, in order, where each lies, or why the broker did not take it.
    ///
    /// A broker refuses record batches as wholes, for one message or only for their sum; so what is refused is sent
    /// again in halves, and only what is refused alone is a [`SendError::Message`]. Returns at the latest after about
    /// two delivery timeouts: what could not be sent again by then is a [`SendError::Broker`].
    pub async fn send_all(&self, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let outlet = Outlet { producer: &producer, signing: &self.signing };
        let sent = deliver(outlet, messages).await;
        self.learn(&producer, &sent);
        sent
    }

    /// Sends a message that came once more, just as it was: to its partition, with its key, headers and bytes.
    ///
    /// # Errors
    /// Why the broker did not confirm it.
    pub async fn resend(&self, record: &Record) -> Result<Offset, SendError> {
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = match queue_again(&producer, record) {
            Ok(delivery) => confirmed(delivery).await,
            Err(error) => Err(error),
        };
        self.learn(&producer, std::slice::from_ref(&sent));
        sent
    }

    fn learn(&self, producer: &FutureProducer<Context>, sent: &[Result<Offset, SendError>]) {
        let refused = sent.iter().find_map(|sent| match sent {
            Err(SendError::Broker(reason)) => Some(reason),
            _ => None,
        });
        // One partition that has no leader is not the broker.
        match refused {
            _ if sent.iter().any(Result::is_ok) => self.broker.up(),
            Some(reason) => self.broker.down(reason.clone()),
            None => {}
        }
        // A fatal error ends an idempotent producer for good; a new one starts with a new identity.
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(?code, reason, "the producer failed for good and is made anew");
            match create(self.purpose, &self.settings, &self.client_id, &self.broker) {
                Ok(fresh) => {
                    *self.inner.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Err(error) => tracing::error!(%error, "no new producer can be made"),
            }
        }
    }

    /// The number of partitions of `topic`. Blocks for at most 5 s.
    ///
    /// # Errors
    /// Why the broker can't say: it is away, refuses, or has no such topic.
    pub fn partitions(&self, topic: &str) -> Result<i32, String> {
        self.find(topic).map_err(|error| error.to_string())
    }

    /// As [`Producer::partitions`], for those who act on what is wrong.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn find(&self, topic: &str) -> Result<i32, TopicError> {
        let count = self.look_up(topic, |found| found.partitions().len())?;
        i32::try_from(count)
            .map_err(|error| TopicError::Refused(topic.to_owned(), error.to_string()))
    }

    /// The partitions of `topic` that have a leader, so that something can be sent to them. Blocks for at most 5 s.
    ///
    /// # Errors
    /// As [`Producer::partitions`].
    pub fn leaders(&self, topic: &str) -> Result<BTreeSet<i32>, String> {
        self.look_up(topic, |found| {
            let led = found.partitions().iter().filter(|partition| partition.leader() >= 0);
            led.map(MetadataPartition::id).collect()
        })
        .map_err(|error| error.to_string())
    }

    /// What the broker knows of `topic`, which has at least one partition.
    fn look_up<T>(
        &self,
        topic: &str,
        read: impl FnOnce(&MetadataTopic) -> T,
    ) -> Result<T, TopicError> {
        let name = topic.to_owned();
        let producer = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let metadata = producer
            .client()
            .fetch_metadata(Some(topic), Duration::from_secs(5))
            .map_err(|error| TopicError::Away(name.clone(), error.to_string()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(refused) = found.and_then(|found| found.error()) {
            return Err(match RDKafkaErrorCode::from(refused) {
                RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                    TopicError::Missing(name)
                }
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::InvalidTopic) => TopicError::Refused(name, code.to_string()),
                // Such as a partition without a leader, which may have one soon.
                code => TopicError::Away(name, code.to_string()),
            });
        }
        let found = found.filter(|found| !found.partitions().is_empty());
        let read = found.map(read).ok_or(TopicError::Missing(name))?;
        self.broker.up();
        Ok(read)
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
    purpose: Purpose,
    settings: &KafkaSettings,
    client_id: &str,
    broker: &BrokerState,
) -> Result<FutureProducer<Context>, KafkaError> {
    let mut config = client::base(settings, client_id);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        // What is to leave together is given together: to wait for more would only hold up the single ones.
        .set("linger.ms", "0")
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536");
    let mut config = client::with_properties(config, settings);
    if purpose == Purpose::Elsewhere {
        // What waits for these messages counts on it. The second name is the same property's.
        config.set("message.timeout.ms", DELIVERY_TIMEOUT_MS).remove("delivery.timeout.ms");
    }
    config
        .create_with_context(Context { broker: broker.clone() })
        .map_err(KafkaError::during("the producer can't be made"))
}

/// What new messages leave by.
#[derive(Clone, Copy)]
struct Outlet<'a> {
    producer: &'a FutureProducer<Context>,
    signing: &'a Signing,
}

fn enqueue(outlet: Outlet<'_>, message: &Message) -> Result<DeliveryFuture, SendError> {
    let signature = outlet.signing.sign(message);
    let of_message = message.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let signature = signature.iter().map(|signature| (SIGNATURE, signature.as_str()));
    let headers = OwnedHeaders::new_with_capacity(message.headers.len() + 1);
    let headers = of_message.chain(signature).fold(headers, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    });
    let mut record = FutureRecord::to(&message.topic)
        .key(&message.key)
        .headers(headers)
        .payload(&message.payload);
    record.partition = message.partition;
    outlet.producer.send_result(record).map_err(|(error, _record)| judge(&error))
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

/// Sends messages, in halves what is refused: see [`Producer::send_all`].
async fn deliver(outlet: Outlet<'_>, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
    let mut sent = send_together(outlet, messages.iter()).await;
    let deadline = Instant::now() + SEND_APART;
    for refused in refused_together(messages, &sent) {
        send_apart(outlet, messages, refused, deadline, &mut sent).await;
    }
    sent
}

/// Sends messages that may end in the same record batches; the outcomes are in their order.
async fn send_together(
    outlet: Outlet<'_>,
    messages: impl Iterator<Item = &Message>,
) -> Vec<Result<Offset, SendError>> {
    let queued: Vec<_> = messages.map(|message| enqueue(outlet, message)).collect();
    let mut sent = Vec::with_capacity(queued.len());
    for delivery in queued {
        sent.push(match delivery {
            Ok(delivery) => confirmed(delivery).await,
            Err(error) => Err(error),
        });
    }
    sent
}

/// The places of the messages that were refused, by their partition: a record batch may hold others beside them.
fn refused_together(messages: &[Message], sent: &[Result<Offset, SendError>]) -> Vec<Vec<usize>> {
    let mut partitions: BTreeMap<(&str, Option<i32>), Vec<usize>> = BTreeMap::new();
    for (place, (message, sent)) in messages.iter().zip(sent).enumerate() {
        if matches!(sent, Err(SendError::Message(_))) {
            partitions.entry((&message.topic, message.partition)).or_default().push(place);
        }
    }
    partitions.into_values().collect()
}

/// Sends what one partition refused in halves, down to single messages.
async fn send_apart(
    outlet: Outlet<'_>,
    messages: &[Message],
    refused: Vec<usize>,
    deadline: Instant,
    sent: &mut [Result<Offset, SendError>],
) {
    let mut parts = vec![refused];
    while let Some(part) = parts.pop() {
        // The second half is pushed first, so that the earlier messages go first.
        let (first, second) = part.split_at(part.len().div_ceil(2));
        if !second.is_empty() {
            parts.push(second.to_vec());
        }
        let outcomes = match Instant::now() < deadline {
            true => {
                let again = first.iter().filter_map(|place| messages.get(*place));
                send_together(outlet, again).await
            }
            false => vec![Err(SendError::Broker("there was no time to send it alone".to_owned()))],
        };
        if let Some(Err(error @ SendError::Broker(_))) = outcomes.first() {
            // The rest would only wait for the same broker, and is to blame for nothing.
            let rest = first.iter().chain(parts.iter().flatten());
            let unsent = Err(error.clone());
            rest.for_each(|place| set(sent, *place, &unsent));
            // Some of them may have been confirmed all the same.
            let confirmed = first.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            confirmed.for_each(|(place, outcome)| set(sent, *place, outcome));
            return;
        }
        let mut still = Vec::new();
        for (place, outcome) in first.iter().zip(outcomes) {
            if matches!(outcome, Err(SendError::Message(_))) {
                still.push(*place);
            }
            set(sent, *place, &outcome);
        }
        if first.len() > 1 && !still.is_empty() {
            parts.push(still);
        }
    }
}

fn set(sent: &mut [Result<Offset, SendError>], place: usize, outcome: &Result<Offset, SendError>) {
    if let Some(sent) = sent.get_mut(place) {
        sent.clone_from(outcome);
    }
}

async fn confirmed(delivery: DeliveryFuture) -> Result<Offset, SendError> {
    match delivery.await {
        Ok(Ok(delivered)) => Ok((delivered.offset >= 0).then_some(delivered.offset)),
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
