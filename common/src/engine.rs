//! The parts of the loop, put together: what runs in the background of a service, and how it stops.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::CommitMode;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::alerts::Alerts;
use crate::bulk::Bulk;
use crate::clock::Timestamp;
use crate::config::Settings;
use crate::db::{Db, DbError, Fault, MigrationSet};
use crate::env::Env;
use crate::http::Running;
use crate::inbox::{Applied, Handler, Inbox, InboxConsumer, MAX_RIDDLES};
use crate::jobs::{Next, Retry, Tasks, Timers, on_poke};
use crate::kafka::{Consumer, Producer, Record, Verdict, ensure_topics};
use crate::outbox::{
    Held, InFlight, Listener, Outbox, Policy, Relay, Settlement, Settler, Watch, release, renew,
};
use crate::peer::Peer;
use crate::retention::{self, Retention};
use crate::retry::Backoff;
use crate::signals::Signals;
use crate::stats::{Sample, Sampler, Trend};
use crate::telemetry::{BrokerState, Collector, Delivery, IgnoredAck, Metrics, Spans, Step};

/// Which halves of the engine a service uses.
pub struct Roles {
    /// Whether it has events of its own to send.
    pub sends: bool,
    /// What it does with the events of the other service, if it receives any.
    pub receives: Option<Arc<dyn Handler>>,
    /// Who acts on what becomes of its own events, in the same transaction.
    pub listens: Option<Arc<dyn Listener>>,
}

/// The engine of one service; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// Time, ids and chance.
    pub env: Env,
    /// The service's own database.
    pub db: Db,
    /// Where changes put their events.
    pub outbox: Outbox,
    /// The way to people.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the steps of traces are written down.
    pub spans: Spans,
    /// What is sampled.
    pub sampler: Sampler,
    /// What is known of the broker.
    pub broker: BrokerState,
    /// Keyed writes under way.
    pub running: Running,
    /// Who waits within this process for something to be committed.
    pub signals: Signals,
    /// Cancelled when the service begins to stop: whatever would hold a connection open ends then.
    pub stopping: CancellationToken,
    /// Actions on many events.
    pub bulk: Bulk,
    /// The other service.
    pub peer: Peer,
    /// What receives its events, once it runs and if it receives any.
    pub(crate) handler: Option<Arc<dyn Handler>>,
    /// What sends its messages, once it runs.
    pub(crate) producer: Option<Producer>,
    in_flight: InFlight,
    timers: Arc<[Arc<Notify>; 2]>,
}

/// Messages of the ack topic that one transaction settles at the most; each may hold a thousand acks.
const ACK_MESSAGES: usize = 8;

impl Engine {
    /// Opens the database, brings its schema up to date and makes the parts; nothing runs yet.
    ///
    /// `public_url` is the base of links to this service.
    ///
    /// # Errors
    /// One line that says what is wrong with the database or a setting, and what to do.
    pub async fn open(
        settings: Settings,
        env: Env,
        migrations: &'static [MigrationSet],
        public_url: &str,
    ) -> anyhow::Result<Self> {
        let db = open_database(&settings, migrations).await?;
        Self::over(db, settings, env, public_url)
    }

    /// The parts of an engine on a database that is open and up to date; nothing runs yet.
    ///
    /// # Errors
    /// One line that says which setting is wrong.
    pub fn over(db: Db, settings: Settings, env: Env, public_url: &str) -> anyhow::Result<Self> {
        let sampler = Sampler::new(&settings.kafka);
        let broker = BrokerState::default();
        let alerts = Alerts::new(
            &settings.service.name,
            public_url,
            &settings.alerts,
            &settings.mail,
            &settings.webhook,
        )?;
        let outbox = &settings.outbox;
        Ok(Self {
            outbox: Outbox::new(env.clone(), outbox.max_attempts),
            in_flight: InFlight::new(outbox.in_flight_events, outbox.in_flight_bytes),
            spans: Spans::off(env.clone()),
            bulk: Bulk::default(),
            peer: Peer::new(&settings.peer)?,
            handler: None,
            producer: None,
            metrics: Metrics::new(sampler.clone(), broker.clone()),
            settings: Arc::new(settings),
            env,
            db,
            alerts,
            sampler,
            broker,
            running: Running::default(),
            signals: Signals::default(),
            stopping: CancellationToken::new(),
            timers: Arc::default(),
        })
    }

    /// Starts the background work; what is cloned of the engine from now on knows the listener and the spans.
    ///
    /// # Errors
    /// When a setting of the broker or a cron expression is not understood.
    pub async fn start(&mut self, roles: Roles) -> anyhow::Result<EngineRun> {
        let (name, trace) = (&self.settings.service.name, &self.settings.trace);
        let (spans, collector) = Spans::new(trace, name, self.env.clone())?;
        self.outbox =
            self.outbox.clone().with_listener(roles.listens.clone()).with_spans(spans.clone());
        self.spans = spans;
        let stop = CancellationToken::new();
        let tasks = Tasks::new(self.log_span());
        let producer =
            Producer::new(&self.settings.kafka, &self.settings.service.name, self.broker.clone())?;
        self.producer = Some(producer.clone());
        self.handler.clone_from(&roles.receives);
        self.prepare_topics(&roles, &stop, &tasks);
        if roles.sends {
            self.start_outbox(&producer, &stop, &tasks)?;
        }
        if let Some(handler) = roles.receives {
            self.start_inbox(handler, &producer, &stop, &tasks)?;
        }
        self.start_housekeeping(&stop, &tasks);
        let timers = self.start_timers().await?;
        tasks.close();
        let export = collector.map(|collector| Export::start(collector, self.log_span()));
        Ok(EngineRun { stop, tasks, timers, producer, export })
    }

    /// What log lines of this service come from.
    pub fn log_span(&self) -> tracing::Span {
        // On the level that passes every filter: it only names, and logs nothing by itself.
        tracing::error_span!("service", service = self.settings.service.name)
    }

    /// Makes missing topics once the broker can be reached.
    fn prepare_topics(&self, roles: &Roles, stop: &CancellationToken, tasks: &Tasks) {
        let settings = self.settings.kafka.clone();
        if !settings.create_topics {
            return;
        }
        let mut names = Vec::new();
        if roles.sends {
            names.extend([settings.outbound_topic.clone(), settings.outbound_ack_topic.clone()]);
        }
        if roles.receives.is_some() {
            names.extend([settings.inbound_topic.clone(), settings.inbound_ack_topic.clone()]);
        }
        let (engine, stop) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut retry = Retry::new("making topics", &engine.env, &stop);
            while let Err(error) = ensure_topics(&settings, &names, engine.broker.clone()).await {
                if retry.pause(&error).await.is_none() {
                    return;
                }
            }
            retry.succeeded(());
            engine.outbox.wake();
        });
    }

    fn start_outbox(
        &self,
        producer: &Producer,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let relay = Arc::new(self.relay(producer));
        let owner = self.env.event_id().to_string();
        let held = Arc::new(Mutex::new(Held::nothing(owner.clone())));
        tasks.spawn(self.clone().keep_leases(owner, Arc::clone(&held), stop.clone()));
        tasks.spawn(self.clone().relay_loop(Arc::clone(&relay), Arc::clone(&held), stop.clone()));
        tasks.spawn(self.clone().watch_loop(relay, held, stop.clone()));
        let kafka = &self.settings.kafka;
        let group = format!("{}.acks", self.settings.service.name);
        let consumer =
            Consumer::subscribe(kafka, &group, &kafka.outbound_ack_topic, self.broker.clone())?;
        tasks.spawn(self.clone().settle_loop(consumer, stop.clone()));
        Ok(())
    }

    fn policy(&self) -> Policy {
        let outbox = &self.settings.outbox;
        Policy {
            backoff: Backoff { base: outbox.backoff_base, max: outbox.backoff_max },
            listener: self.outbox.listener().cloned(),
        }
    }

    /// The relay of this engine, sending with `producer`.
    pub fn relay(&self, producer: &Producer) -> Relay {
        let settings = &self.settings;
        Relay::new(
            self.db.clone(),
            self.env.clone(),
            producer.clone(),
            self.policy(),
            self.in_flight.clone(),
            &settings.service.name,
            &settings.kafka.outbound_topic,
            settings.outbox.batch,
        )
        .with_spans(self.spans.clone())
    }

    /// What turns answers into states.
    pub fn settler(&self) -> Settler {
        Settler {
            env: self.env.clone(),
            policy: self.policy(),
            topic: self.settings.kafka.outbound_topic.clone(),
            consumer: self.settings.kafka.outbound_consumer.clone(),
        }
    }

    /// What looks after the events that were sent.
    pub fn watch(&self) -> Watch {
        let outbox = &self.settings.outbox;
        Watch {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: self.policy(),
            topic: self.settings.kafka.outbound_topic.clone(),
            consumer: self.settings.kafka.outbound_consumer.clone(),
            ack_timeout: outbox.ack_timeout,
            ack_grace: outbox.ack_grace,
            probes: Backoff { base: outbox.probe_after, max: outbox.backoff_max },
        }
    }

    async fn keep_leases(self, owner: String, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let lease = self.settings.outbox.lease;
        let mut retry = Retry::new("renewing the relay's leases", &self.env, &stop);
        while !stop.is_cancelled() {
            match renew(&self.db, &owner, lease).await {
                Ok(renewed) => {
                    retry.succeeded(());
                    let grew = renewed.tokens.len() > lock(&held).tokens.len();
                    *lock(&held) = renewed;
                    if grew {
                        self.outbox.wake();
                    }
                }
                Err(error) => {
                    if retry.pause(&error).await.is_none() {
                        break;
                    }
                    continue;
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(lease / 4) => {}
            }
        }
    }

    async fn relay_loop(self, relay: Arc<Relay>, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let mut retry = Retry::new("counting what is in flight", &self.env, &stop);
        while let Err(error) = self.in_flight.refresh(&self.db).await {
            if retry.pause(&error).await.is_none() {
                return;
            }
        }
        retry.succeeded(());
        on_poke("relaying events", &self.env, self.outbox.notify(), &stop, || async {
            let held = lock(&held).clone();
            let outcome = relay.run_once(&held).await?;
            self.metrics.relay_sent(count(outcome.sent));
            outcome.first_sent.iter().for_each(|waited| self.metrics.commit_to_sent(*waited));
            if outcome.refused > 0 {
                self.alerts.wake();
            }
            Ok::<_, DbError>(if outcome.drained { Next::Wait } else { Next::Again })
        })
        .await;
        let owner = lock(&held).owner.clone();
        if let Err(error) = release(&self.db, &owner).await {
            tracing::debug!(%error, "the leases end by themselves");
        }
    }

    async fn watch_loop(self, relay: Arc<Relay>, held: Arc<Mutex<Held>>, stop: CancellationToken) {
        let watch = self.watch();
        on_poke("watching events", &self.env, self.watch_timer(), &stop, || async {
            relay.forget_topology();
            self.in_flight.refresh(&self.db).await?;
            // One instance watches: whoever holds the first shard.
            if lock(&held).is_valid() && lock(&held).tokens.contains_key(&0) {
                let outcome = watch.run_once(&relay).await?;
                if outcome.overdue + outcome.silent > 0 {
                    tracing::info!(?outcome, "events are overdue or partitions silent");
                    self.alerts.wake();
                }
            }
            self.outbox.wake();
            Ok::<_, DbError>(Next::Wait)
        })
        .await;
    }

    async fn settle_loop(self, consumer: Consumer, stop: CancellationToken) {
        let settler = self.settler();
        loop {
            let records = tokio::select! {
                () = stop.cancelled() => return,
                records = consumer.next_batch(ACK_MESSAGES, Duration::from_millis(1)) => records,
            };
            let began = self.env.now();
            let Some(settlement) = self.settle(&settler, &records, &stop).await else { return };
            consumer.commit(&records, CommitMode::Async);
            self.trace_settling(began, &settlement);
            self.after_settling(&settlement);
        }
    }

    async fn settle(
        &self,
        settler: &Settler,
        records: &[Record],
        stop: &CancellationToken,
    ) -> Option<Settlement> {
        let mut retry = Retry::new("settling events", &self.env, stop);
        let mut riddles = 0;
        loop {
            match settler.settle(&self.db, records.to_vec(), riddles >= MAX_RIDDLES).await {
                Ok(settlement) => return Some(retry.succeeded(settlement)),
                Err(error) => {
                    riddles += u32::from(error.fault() == Fault::Unknown);
                    retry.pause(&error).await?;
                }
            }
        }
    }

    /// Writes down the last step of each trace that is recorded.
    fn trace_settling(&self, began: Timestamp, settlement: &Settlement) {
        for heard in &settlement.advanced.heard {
            let about = || Delivery {
                id: heard.id,
                key: heard.key.clone(),
                attempt: heard.attempt,
                topic: self.settings.kafka.outbound_ack_topic.clone(),
                partition: None,
            };
            let mut traceparent = Some(heard.traceparent.clone());
            if let Some(span) = self.spans.begin(Step::Settle, &mut traceparent, about) {
                let span = span.since(began).with("stockloop.outcome", heard.verdict.name());
                self.spans.end(span.with("stockloop.status", heard.status.name()), None);
            }
        }
    }

    fn after_settling(&self, settlement: &Settlement) {
        let advanced = &settlement.advanced;
        self.in_flight.landed(&advanced.landed);
        let now = self.env.now();
        for event in &advanced.settled {
            self.metrics.commit_to_ack(now.since(event.created));
            if let Some(processed) = event.processed {
                self.metrics.commit_to_applied(processed.since(event.created));
            }
        }
        let success = advanced.settled.iter().filter(|event| event.success).count();
        self.metrics.settled("success", count(success));
        self.metrics.settled("rejected", count(advanced.settled.len() - success));
        self.metrics.settled("failed", count(advanced.again + advanced.exhausted));
        self.metrics.acks_ignored(IgnoredAck::UnknownEvent, count(settlement.unknown));
        self.metrics.acks_ignored(IgnoredAck::ForeignConsumer, count(settlement.foreign));
        if settlement.unknown + settlement.foreign + settlement.unreadable > 0 {
            tracing::warn!(
                unknown = settlement.unknown,
                foreign = settlement.foreign,
                unreadable = settlement.unreadable,
                "some acks were not answers to events of this service"
            );
        }
        if advanced.exhausted > 0 {
            self.alerts.wake();
        }
        // There may be room in flight for what waited for it.
        self.outbox.wake();
    }

    fn start_inbox(
        &self,
        handler: Arc<dyn Handler>,
        producer: &Producer,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let (kafka, name) = (&self.settings.kafka, &self.settings.service.name);
        let consumer = InboxConsumer {
            inbox: Inbox::new(self.db.clone(), self.env.clone(), handler, name)
                .with_spans(self.spans.clone()),
            consumer: Consumer::subscribe(kafka, name, &kafka.inbound_topic, self.broker.clone())?,
            producer: producer.clone(),
            ack_topic: kafka.inbound_ack_topic.clone(),
            batch: self.settings.inbox.batch,
            linger: self.settings.inbox.linger,
        };
        let (metrics, outbox, stop) = (self.metrics.clone(), self.outbox.clone(), stop.clone());
        tasks.spawn(async move {
            consumer
                .run(&stop, |applied: &Applied| {
                    count_answers(&metrics, applied);
                    // A handler may have caused events of its own.
                    outbox.wake();
                })
                .await;
        });
        Ok(())
    }

    fn start_housekeeping(&self, stop: &CancellationToken, tasks: &Tasks) {
        tasks.spawn(self.clone().alert_loop(stop.clone()));
        tasks.spawn(self.clone().sample_loop(stop.clone()));
        tasks.spawn(self.clone().forget_loop(stop.clone()));
        tasks.spawn(self.clone().bulk_loop(stop.clone()));
    }

    async fn alert_loop(self, stop: CancellationToken) {
        on_poke("mailing alerts", &self.env, self.alerts.notify(), &stop, || async {
            let outcome = self.alerts.run_once(&self.db, &self.env).await?;
            self.metrics.mails_sent(count(outcome.mails.sender.sent));
            Ok::<_, anyhow::Error>(Next::Wait)
        })
        .await;
    }

    async fn sample_loop(self, stop: CancellationToken) {
        let mut retry = Retry::new("sampling the tables", &self.env, &stop);
        let trend = Trend::default();
        loop {
            let sample = match self.sample(&trend).await {
                Ok(sample) => retry.succeeded(sample),
                Err(error) => match retry.pause(&error).await {
                    Some(()) => continue,
                    None => return,
                },
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(sample.rest()) => {}
            }
        }
    }

    async fn sample(&self, trend: &Trend) -> Result<Arc<Sample>, DbError> {
        let sample = self.sampler.run_once(&self.db, &self.env).await?;
        trend.run_once(&self.db, &sample).await?;
        Ok(sample)
    }

    async fn forget_loop(self, stop: CancellationToken) {
        on_poke("forgetting old rows", &self.env, &self.timers[FORGET], &stop, || async {
            let now = self.env.now();
            let limits = Retention::of(&self.settings, now);
            let gone = retention::run_once(&self.db, limits).await?;
            Ok::<_, DbError>(if gone > 0 { Next::Again } else { Next::Wait })
        })
        .await;
    }

    async fn bulk_loop(self, stop: CancellationToken) {
        on_poke("acting on many events", &self.env, self.bulk.notify(), &stop, || async {
            let outcome = self.bulk.run_once(&self.db, &self.env, &self.outbox).await?;
            if outcome.done > 0 {
                self.outbox.wake();
            }
            Ok::<_, DbError>(if outcome.worked { Next::Again } else { Next::Wait })
        })
        .await;
    }

    fn watch_timer(&self) -> &Notify {
        &self.timers[WATCH]
    }

    async fn start_timers(&self) -> anyhow::Result<Timers> {
        let timers = Timers::new().await?;
        let settings = &self.settings;
        timers.every(&settings.outbox.sweep_cron, self.outbox.notify()).await?;
        timers.every(&settings.outbox.watch_cron, &self.timers[WATCH]).await?;
        timers.every(&settings.outbox.sweep_cron, self.bulk.notify()).await?;
        timers.every(&settings.alerts.cron, self.alerts.notify()).await?;
        timers.every("0 * * * * *", &self.timers[FORGET]).await?;
        timers.start().await?;
        Ok(timers)
    }
}

/// Places in [`Engine::timers`].
const WATCH: usize = 0;
const FORGET: usize = 1;

fn lock(held: &Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn count_answers(metrics: &Metrics, applied: &Applied) {
    let answered = |verdict| applied.acks.iter().filter(|(_, ack)| ack.outcome == verdict).count();
    metrics.inbox_events("success", count(answered(Verdict::Success)));
    metrics.inbox_events("rejected", count(answered(Verdict::Rejected)));
    metrics.inbox_events("failed", count(answered(Verdict::Failed)));
    metrics.inbox_events("unreadable", count(applied.unreadable));
}

/// Opens and migrates a service's database, off the async threads.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn open_database(
    settings: &Settings,
    migrations: &'static [MigrationSet],
) -> anyhow::Result<Db> {
    let database = settings.database.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let db = Db::open(&database)?;
        for name in db.migrate(migrations)? {
            tracing::info!(migration = name, "migrated");
        }
        Ok::<_, DbError>(db)
    });
    Ok(opened.await.context("opening the database was interrupted")??)
}

/// The background work under way.
pub struct EngineRun {
    stop: CancellationToken,
    tasks: Tasks,
    timers: Timers,
    producer: Producer,
    export: Option<Export>,
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

impl EngineRun {
    /// Stops: what is in flight is finished, the producer flushed; after `within` the rest is left to the next start.
    pub async fn stop(mut self, within: Duration) {
        self.timers.stop().await;
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
