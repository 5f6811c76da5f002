//! What of an engine runs in the background of a service, and how it stops.

mod filling;
mod housekeeping;
mod logging;
mod losing;
mod neighbours;
mod observing;
mod receiving;
mod restoring;
mod sending;
mod settling;
mod verifying;
mod viewing;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use common::telemetry::Collector;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::Engine;
use crate::alerts::{AlertKind, Condition};
use crate::kafka::{Producer, ensure_topics};
use crate::worker::{Retry, Tasks, Timers};

/// How often, and after which pauses, topics that were just made are looked for.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The background work of an engine, before it runs.
pub struct Loops {
    engine: Engine,
    collector: Option<Collector>,
    /// Says that it is time to look for what nobody reports.
    overdue_wakeup: Arc<Notify>,
    /// Says that it is time to forget what is old.
    retention_wakeup: Arc<Notify>,
    /// Says that it is time to verify the copies.
    verify_wakeup: Arc<Notify>,
}

/// The background work under way.
pub struct RunningLoops {
    stop: CancellationToken,
    tasks: Tasks,
    producer: Producer,
    export: Option<Export>,
}

impl Loops {
    pub(crate) fn new(engine: Engine, collector: Option<Collector>) -> Self {
        Self {
            engine,
            collector,
            overdue_wakeup: Arc::default(),
            retention_wakeup: Arc::default(),
            verify_wakeup: Arc::default(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a setting of the broker or a cron expression is not understood.
    pub async fn start(self) -> anyhow::Result<RunningLoops> {
        let engine = &self.engine;
        let stop = CancellationToken::new();
        // What runs already must not outlive a start that fails.
        let unless_started = stop.clone().drop_guard();
        let tasks = Tasks::new(engine.log_span(), engine.loops.clone(), stop.clone());
        engine.clone().prepare_topics(&stop, &tasks);
        if engine.sends {
            self.start_sending(&stop, &tasks)?;
        }
        if let Some(handler) = &engine.handler {
            engine.start_receiving(Arc::clone(handler), &stop, &tasks)?;
        }
        self.start_viewing(&stop, &tasks)?;
        engine.clone().start_watching(&stop, &tasks)?;
        self.start_verifying(&stop, &tasks);
        self.start_restoring(&stop, &tasks);
        self.start_losing(&stop, &tasks);
        self.start_filling(&stop, &tasks);
        self.start_housekeeping(&stop, &tasks);
        let timers = self.start_timers().await?;
        tasks.spawn_loop("timers", timers.keep(stop.clone()));
        tasks.close();
        unless_started.disarm();
        let producer = engine.producer.clone();
        let span = engine.log_span();
        let export = self.collector.map(|collector| Export::start(collector, span));
        Ok(RunningLoops { stop, tasks, producer, export })
    }

    async fn start_timers(&self) -> anyhow::Result<Timers> {
        let Engine {
            settings,
            outbox,
            bulk,
            alerts,
            resync,
            verifier,
            restorer,
            lost,
            bootstrap,
            ..
        } = &self.engine;
        let mut timers = Timers::new().await?;
        let sweep = ("outbox.sweep_cron", settings.outbox.sweep_cron.as_str());
        let watch = ("outbox.watch_cron", settings.outbox.watch_cron.as_str());
        let alerting = ("alerts.cron", settings.alerts.cron.as_str());
        let forgetting = ("retention.cron", settings.retention.cron.as_str());
        let verifying = ("verify.cron", settings.verify.cron.as_str());
        timers.every(sweep, outbox.notify()).await?;
        timers.every(watch, &self.overdue_wakeup).await?;
        timers.every(sweep, bulk.notify()).await?;
        timers.every(alerting, alerts.notify()).await?;
        timers.every(forgetting, &self.retention_wakeup).await?;
        if let Some(restorer) = restorer {
            timers.every(watch, &restorer.woken).await?;
        }
        if let Some(lost) = lost {
            timers.every(watch, &lost.woken).await?;
        }
        if let Some(verifier) = verifier {
            timers.every(sweep, resync.notify()).await?;
            // What another instance has left, too.
            timers.every(watch, verifier.notify()).await?;
        }
        // A service that verifies nothing has nobody who waits for it, but refuses a wrong one all the same.
        if !settings.verify.cron.is_empty() {
            timers.every(verifying, &self.verify_wakeup).await?;
        }
        if let Some(bootstrap) = bootstrap {
            timers.every(watch, bootstrap.notify()).await?;
        }
        timers.start().await?;
        Ok(timers)
    }
}

impl Engine {
    /// A condition of one of the loops; it is told once it has lasted as long as an answer may take.
    fn condition(&self, kind: AlertKind) -> Condition {
        let patience = self.settings.outbox.ack_timeout;
        Condition::new(self.db.clone(), self.env.clone(), self.alerts.clone(), kind, patience)
    }

    /// Makes missing topics once the broker can be reached; what reads or looks at topics waits for that for a while.
    fn prepare_topics(self, stop: &CancellationToken, tasks: &Tasks) {
        let settings = self.settings.kafka.clone();
        if !settings.create_topics {
            return;
        }
        let mut names = Vec::new();
        if self.sends {
            names.extend([settings.outbound_topic.clone(), settings.outbound_ack_topic.clone()]);
        }
        if self.handler.is_some() {
            names.extend([settings.inbound_topic.clone(), settings.inbound_ack_topic.clone()]);
        }
        let stop = stop.clone();
        self.broker.topics_made(false);
        tasks.spawn(async move {
            let topics: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut retry = Retry::new("making topics", &self.env, &stop);
            while let Err(error) = ensure_topics(&settings, &topics, self.broker.clone()).await {
                if retry.pause(&error).await.is_none() {
                    return;
                }
            }
            retry.succeeded(());
            stop.run_until_cancelled(self.until_told_of(&names)).await;
            self.broker.topics_made(true);
            self.outbox.wake_here();
        });
    }

    /// Waits until the broker tells of topics that were just made: it learns of them a moment later than its controller.
    /// One that this service may not look at is not waited for long.
    async fn until_told_of(&self, topics: &[String]) {
        for _ in 0..LOOKS {
            let (producer, topics) = (self.producer.clone(), topics.to_vec());
            let are_told = move || topics.iter().all(|topic| producer.partitions(topic).is_ok());
            if tokio::task::spawn_blocking(are_told).await.unwrap_or(true) {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The way of spans out of the process: it ends last, as all else may still have something to tell.
struct Export {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Export {
    fn start(collector: Collector, service: tracing::Span) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(collector.run(stop.clone()).instrument(service));
        Self { stop, task }
    }

    async fn stop(self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, self.task).await.is_err() {
            tracing::warn!("the last spans did not reach the collector in time");
        }
    }
}

impl RunningLoops {
    /// Stops: what is in flight is finished, the producer flushed; after `within` the rest is left to the next start.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                ?within,
                "some work did not end in time; it is taken up again at the next start"
            );
        }
        let producer = self.producer;
        let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(2)));
        if flushed.await.is_err() {
            tracing::warn!("the producer was not flushed");
        }
        if let Some(export) = self.export {
            export.stop(Duration::from_secs(2)).await;
        }
    }
}
