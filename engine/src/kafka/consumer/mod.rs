//! Receiving in batches; offsets move only when the caller says that a batch is done.

mod aside;
mod limits;
mod place;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use common::config::KafkaSettings;
use common::telemetry::{BrokerState, ConsumerState};
use futures::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use self::aside::Aside;
pub use self::limits::BatchLimits;
pub use self::record::Record;
use self::record::record;
use super::client::{self, KafkaError};
use super::membership::{Assigned, Held, Membership, STATISTICS_MS};

/// How long a consumer waits for a message before it looks whether it is to be made anew.
const LOOK: Duration = Duration::from_secs(1);

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
            held: Held::default(),
        };
        let inner = RwLock::new(Arc::new(create(settings, group, membership)?));
        let (settings, group) = (settings.clone(), group.to_owned());
        let (joined, aside) = Default::default();
        Ok(Self { settings, group, inner, joined, aside, assigned, broker, state })
    }

    /// The next messages: waits for the first, then for more as `limits` say. None, if partitions were assigned meanwhile
    /// that nobody has taken from [`Consumer::assigned`].
    ///
    /// Cancel-safe in the sense that matters here: what was taken and not committed comes again.
    pub async fn next_batch(&self, limits: BatchLimits) -> Vec<Record> {
        let Some(first) = self.next_unless_assigned().await else { return Vec::new() };
        let mut batch = vec![first];
        self.fill(&mut batch, limits).await;
        batch
    }

    /// A few messages more for `batch`, if they come soon: at least one, however full it is, and to ask keeps the member in
    /// its group.
    pub async fn more(&self, batch: &mut Vec<Record>, limits: BatchLimits) {
        let Ok(record) = timeout(limits.linger, self.next()).await else {
            // That was too short for a look.
            self.renew_if_due(self.inner());
            return;
        };
        batch.push(record);
        self.fill(batch, limits).await;
    }

    /// Fills `batch` with what is there, and then with what comes soon.
    async fn fill(&self, batch: &mut Vec<Record>, limits: BatchLimits) {
        let bytes = |record: &Record| record.payload.as_ref().map_or(0, Vec::len);
        // The first is taken whatever its size, and counts for nothing.
        let mut size: usize = batch.iter().skip(1).map(bytes).sum();
        while limits.have_room(batch.len(), size)
            && let Some(record) = self.ready()
        {
            size += bytes(&record);
            batch.push(record);
        }
        if batch.len() == 1 && limits.hurries {
            return;
        }
        let deadline = Instant::now() + limits.linger;
        while limits.have_room(batch.len(), size) {
            let Ok(record) = timeout_at(deadline, self.next()).await else {
                break;
            };
            size += bytes(&record);
            batch.push(record);
        }
    }

    /// The next message, if it is there already.
    fn ready(&self) -> Option<Record> {
        if let Some(record) = self.take_aside() {
            return Some(record);
        }
        let inner = self.inner();
        let message = inner.recv().now_or_never()?;
        let message = message.inspect_err(|error| tracing::debug!(%error, "nothing is received"));
        message.ok().map(|message| {
            self.state.received();
            record(&message, &inner.context().held)
        })
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
        self.commit_held(&inner, std::iter::empty(), CommitMode::Async);
        let received = self.receive(&inner).await;
        // Also where a message came, since another partition may need it; and not before, since what the client had to say
        // meanwhile may have ended the need.
        let is_new = self.renew_if_due(inner);
        // What a client that is gone received comes again.
        received.filter(|_| !is_new)
    }

    /// What `inner` receives within a while, if it does.
    async fn receive(&self, inner: &StreamConsumer<Membership>) -> Option<Record> {
        match timeout(LOOK, inner.recv()).await {
            Ok(Ok(message)) => {
                self.broker.up();
                self.state.received();
                return Some(record(&message, &inner.context().held));
            }
            // What it means was noted by the membership; librdkafka mends by itself what it can.
            Ok(Err(error)) => {
                tracing::debug!(%error, "nothing could be received");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_quiet) => {}
        }
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

    /// Puts a new client in the place of `old` when what it met can't end otherwise; returns whether it did.
    fn renew_if_due(&self, old: Arc<StreamConsumer<Membership>>) -> bool {
        let Some(client) = self.state.renew() else { return false };
        tracing::info!(topic = self.state.topic(), group = self.group, "the consumer is made anew");
        let (broker, state, assigned) =
            (self.broker.clone(), self.state.clone(), self.assigned.clone());
        let held = old.context().held.anew();
        let membership = Membership { broker, state, client, assigned, held };
        let fresh = create(&self.settings, &self.group, membership);
        match fresh.and_then(|fresh| join(&fresh, self.state.topic()).map(|()| fresh)) {
            Ok(fresh) => {
                *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                // It begins where was committed, so it gets that again.
                *self.aside() = Aside::default();
                tokio::task::spawn_blocking(move || leave(old));
                true
            }
            Err(error) => {
                tracing::error!(%error, "no new consumer can be made; it is tried again");
                self.state.not_renewed();
                false
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
    ///
    /// One that was taken away since these were taken is left out, also where it was given back: whoever had it then got the
    /// same messages, as duplicates, and may have committed more than these.
    pub fn commit_of(&self, batch: &[Record], done: impl Fn(i32) -> bool, how: CommitMode) {
        self.commit_held(&self.inner(), batch.iter().filter(|record| done(record.partition)), how);
    }

    /// Has the group commit what is `done` of what `inner` has, and what it did not commit before.
    fn commit_held<'a>(
        &self,
        inner: &StreamConsumer<Membership>,
        done: impl IntoIterator<Item = &'a Record>,
        how: CommitMode,
    ) {
        inner.context().held.commit(done, |offsets| {
            let mut list = TopicPartitionList::new();
            for (partition, offset) in offsets {
                // An offset that can't be set is one whose message comes again.
                let _ =
                    list.add_partition_offset(self.topic(), *partition, Offset::Offset(*offset));
            }
            if let Err(error) = inner.commit(&list, how) {
                // What the group does not have is asked for again.
                tracing::warn!(%error, "offsets were not committed");
            }
        });
    }
}

impl Drop for Consumer {
    /// Its client leaves the group in a thread that may wait: the threads of tasks have others to look after, also what
    /// bounds how long the end of a service takes.
    fn drop(&mut self) {
        if let Ok(runtime) = Handle::try_current() {
            let client = self.inner();
            runtime.spawn_blocking(move || leave(client));
        }
    }
}

/// Drops `client` once nobody else has it: it waits there until it has left its group.
fn leave(mut client: Arc<StreamConsumer<Membership>>) {
    while Arc::get_mut(&mut client).is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
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
        // A broker answers as soon as it has a message; a tenth of a second is what partitions may have to wait that were
        // assigned or go on again meanwhile.
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        // By default, a queue that was full is left alone for a second, and may be empty long before.
        .set("fetch.queue.backoff.ms", "100");
    let mut config = client::with_properties(config, settings);
    // After the user's properties: without it nothing would be known of an idle consumer.
    config.set("statistics.interval.ms", STATISTICS_MS);
    config.create_with_context(membership).map_err(KafkaError::during("the consumer can't be made"))
}

fn join(consumer: &StreamConsumer<Membership>, topic: &str) -> Result<(), KafkaError> {
    consumer.subscribe(&[topic]).map_err(KafkaError::during("the topic can't be subscribed to"))
}
