//! The parts of the loop, put together: what runs in the background of a service, and how it stops.

mod housekeeping;
mod receiving;
mod sending;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::alerts::Alerts;
use crate::bulk::Bulk;
use crate::config::Settings;
use crate::db::{Db, DbError, MigrationSet};
use crate::env::Env;
use crate::http::Running;
use crate::inbox::Handler;
use crate::jobs::{Retry, Tasks, Timers};
use crate::kafka::{Producer, ensure_topics};
use crate::outbox::{InFlight, Listener, Outbox};
use crate::peer::Peer;
use crate::signals::Signals;
use crate::stats::{SampleGauges, Sampler};
use crate::telemetry::{BrokerState, Collector, Metrics, Spans};

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
            metrics: metrics(&sampler, &broker),
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

fn metrics(sampler: &Sampler, broker: &BrokerState) -> Metrics {
    let gauges = SampleGauges { sampler: sampler.clone(), broker: broker.clone() };
    Metrics::new(sampler.consumer(), Box::new(gauges))
}

/// Places in [`Engine::timers`].
const WATCH: usize = 0;
const FORGET: usize = 1;

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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
