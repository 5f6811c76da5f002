//! The loop around [`Inbox`]: take a batch, apply it, answer, and only then say that it is done. While a batch is
//! answered, the next one is taken and applied.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::ack_routes::{AckRoutes, AckSender};
use super::answers::{AckPart, AckPublisher, parts_of};
use super::apply::{Applied, Inbox};
use crate::alerts::{Condition, NewAlert};
use crate::kafka::{BatchLimits, Consumer, Producer, Record, cut_error};
use crate::refusals::Refusals;
use crate::worker::Retry;

/// Receives events and answers them.
pub struct InboxConsumer<S = Consumer, A = Producer> {
    /// What applies them.
    pub inbox: Inbox,
    /// Where they come from.
    pub source: S,
    /// Where the answers go, and what sends them.
    pub routes: AckRoutes<A>,
    /// What one transaction takes.
    pub batch: BatchLimits,
    /// That nothing can be applied or answered, for a reason that is no event's.
    pub hindered: Condition,
    /// What is refused for its signature.
    pub refusals: Refusals,
    /// Whether the batch in hand can't be applied: that the one before it is answered ends nothing then.
    pub is_stuck: AtomicBool,
}

/// Where events come from: a member of a group.
pub trait EventSource: Send + Sync + 'static {
    /// See [`Consumer::next_batch`].
    fn next_batch(&self, limits: BatchLimits) -> impl Future<Output = Vec<Record>> + Send;

    /// See [`Consumer::more`].
    fn more(&self, batch: &mut Vec<Record>, limits: BatchLimits)
    -> impl Future<Output = ()> + Send;

    /// See [`Consumer::keep_alive`].
    fn keep_alive(&self) -> impl Future<Output = ()> + Send;

    /// Looks at partitions that were assigned since: is the database as far as what was answered of them?
    fn look(&self, inbox: &Inbox) -> impl Future<Output = ()> + Send;

    /// Says that `batch` is done, so that it does not come again.
    fn commit(&self, batch: &[Record]);
}

impl EventSource for Consumer {
    async fn next_batch(&self, limits: BatchLimits) -> Vec<Record> {
        Consumer::next_batch(self, limits).await
    }

    async fn more(&self, batch: &mut Vec<Record>, limits: BatchLimits) {
        Consumer::more(self, batch, limits).await;
    }

    async fn keep_alive(&self) {
        Consumer::keep_alive(self).await;
    }

    async fn look(&self, inbox: &Inbox) {
        let Inbox { positions, db, env, .. } = inbox;
        positions.look(db, env, self).await;
    }

    fn commit(&self, batch: &[Record]) {
        // Nobody waits for the broker: what it does not get to know comes again.
        Consumer::commit(self, batch, CommitMode::Async);
    }
}

/// A batch that is applied.
struct AppliedBatch {
    records: Arc<Vec<Record>>,
    applied: Applied,
}

/// The batch that is being answered, if there is one: its task ends with none where the service stops before the broker
/// has all answers.
#[derive(Default)]
struct Answering(Option<AbortOnDropHandle<Option<()>>>);

impl Answering {
    /// Waits until it is done; none: it ended without that.
    async fn done(&mut self) -> Option<()> {
        let Some(task) = &mut self.0 else { return Some(()) };
        let ended = task.await;
        self.0 = None;
        ended.unwrap_or_else(|flaw| {
            tracing::error!(%flaw, "answering ended by a flaw; the batch comes again");
            None
        })
    }

    /// Waits until it has ended without being done, for ever if need be.
    async fn failed(&mut self) {
        if self.done().await.is_some() {
            pending::<()>().await;
        }
    }
}

/// How long answers may be on their way before the group has to be told that this member lives.
const SILENT: Duration = Duration::from_secs(1);

impl<S: EventSource, A: AckSender> InboxConsumer<S, A> {
    /// Takes, applies and answers until `stop`; what was taken by then is finished first. `seen` hears of each batch once
    /// it is applied.
    ///
    /// One batch at the most is being answered. The next one waits for it, applied, so batches are answered and offsets
    /// committed in the order in which they came.
    pub async fn run(self: Arc<Self>, stop: &CancellationToken, seen: impl Fn(&Applied) + Send) {
        let mut answering = Answering::default();
        while let Some(records) = self.take(&mut answering, stop).await {
            if records.is_empty() {
                continue;
            }
            // Who leads the answers' topic is known by the time that they are there.
            let (batch, ()) = tokio::join!(self.apply(records, stop), self.look_for_leaders(stop));
            let Some(batch) = batch else { break };
            seen(&batch.applied);
            self.refusals.tell(&batch.applied.signatures).await;
            if self.until_done(&mut answering).await.is_none() {
                return;
            }
            answering = self.begin_answering(batch, stop);
        }
        self.until_done(&mut answering).await;
    }

    /// The next batch; empty, if there was only something to look at; none, when stopping, or when the batch before it is
    /// not to be answered.
    async fn take(
        &self,
        answering: &mut Answering,
        stop: &CancellationToken,
    ) -> Option<Vec<Record>> {
        let records = tokio::select! {
            () = stop.cancelled() => return None,
            () = answering.failed() => return None,
            records = self.source.next_batch(self.batch) => records,
        };
        self.source.look(&self.inbox).await;
        Some(records)
    }

    /// When stopping, what is known of leaders must do: the batch is finished all the same.
    async fn look_for_leaders(&self, stop: &CancellationToken) {
        stop.run_until_cancelled(self.routes.look()).await;
    }

    /// Applies a batch; none, when `stop` came before that: it then comes again.
    async fn apply(&self, records: Vec<Record>, stop: &CancellationToken) -> Option<AppliedBatch> {
        let mut records = Arc::new(records);
        let mut retry = Retry::new("applying events", self.inbox.env(), stop);
        loop {
            // What fails again and again may at last be blamed on single events.
            let repeats = retry.has_failed_often();
            match self.inbox.apply(Arc::clone(&records), repeats).await {
                Ok(applied) => {
                    self.is_stuck.store(false, Ordering::Relaxed);
                    return Some(retry.succeeded(AppliedBatch { records, applied }));
                }
                Err(error) => {
                    self.is_stuck.store(true, Ordering::Relaxed);
                    self.tell(&records, &error.to_string()).await;
                    retry.pause(&error).await?;
                    if repeats {
                        // Others that pass are the proof against those that do not.
                        self.source.more(Arc::make_mut(&mut records), self.batch).await;
                        self.source.look(&self.inbox).await;
                    } else {
                        self.source.keep_alive().await;
                    }
                }
            }
        }
    }

    /// Tells that `records` can't be applied, or not be answered, for the reason `cause`.
    async fn tell(&self, records: &[Record], cause: &str) {
        let topic = records.first().map_or("", |record| record.topic.as_str());
        let alert = NewAlert::not_applied(self.inbox.consumer(), topic, &cut_error(cause));
        self.hindered.met(|_, _| Ok(true), alert).await;
    }

    fn begin_answering(
        self: &Arc<Self>,
        batch: AppliedBatch,
        stop: &CancellationToken,
    ) -> Answering {
        let (this, stop) = (Arc::clone(self), stop.clone());
        let task = async move { this.finish(batch, &stop).await };
        Answering(Some(AbortOnDropHandle::new(tokio::spawn(task.in_current_span()))))
    }

    /// Waits until a batch is answered; none: it ended without that.
    async fn until_done(&self, answering: &mut Answering) -> Option<()> {
        loop {
            match timeout(SILENT, answering.done()).await {
                Ok(done) => return done,
                // It may take long, and the group must not miss this member meanwhile.
                Err(_elapsed) => self.source.keep_alive().await,
            }
        }
    }

    /// Answers a batch, and says that it is done.
    async fn finish(&self, batch: AppliedBatch, stop: &CancellationToken) -> Option<()> {
        let AppliedBatch { records, applied } = batch;
        self.answer(&records, parts_of(applied.acks), stop).await?;
        self.source.commit(&records);
        if !self.is_stuck.load(Ordering::Relaxed) {
            self.hindered.ended("events are applied and answered again").await;
        }
        Some(())
    }

    /// Sends `parts`, the answers to `records`, each until the broker has it: what one partition does not take goes to
    /// another one.
    async fn answer(
        &self,
        records: &[Record],
        mut parts: Vec<AckPart>,
        stop: &CancellationToken,
    ) -> Option<()> {
        let Self { inbox, routes, .. } = self;
        let (env, consumer) = (inbox.env(), inbox.consumer());
        let publisher = AckPublisher { env, consumer, routes };
        let mut retry = Retry::new("answering events", env, stop);
        let mut before: Option<String> = None;
        while !parts.is_empty() {
            self.look_for_leaders(stop).await;
            let sent = publisher.send(parts).await;
            parts = sent.again;
            let Some(trouble) = sent.trouble else { continue };
            self.tell_unanswered(records, &trouble, before.as_deref()).await;
            retry.pause(&trouble).await?;
            before = Some(trouble);
        }
        retry.succeeded(());
        Some(())
    }

    /// Tells that answers don't arrive, for the reason `trouble`; the log has it once more when it changes.
    async fn tell_unanswered(&self, records: &[Record], trouble: &str, before: Option<&str>) {
        let topic = self.routes.topic();
        if before.is_some_and(|before| before != trouble) {
            tracing::warn!(
                topic,
                error = trouble,
                "answers still can't be sent, for another reason"
            );
        }
        self.tell(records, &format!("answers can't be sent to the topic {topic}: {trouble}")).await;
    }
}
