//! The parts of one service's loop, made once and complete. What of them runs is [`crate::Loops`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::config::{ConsumerSettings, Settings};
use common::copy_state;
use common::db::{DatabaseSettings, Db, DbError, MigrationSet};
use common::env::Env;
use common::http::KeysInProgress;
use common::retry::Backoff;
use common::signals::Signals;
use common::telemetry::{BrokerState, LoopStates, Metrics, Spans};
use tokio_util::sync::CancellationToken;

use crate::alerts::Alerts;
use crate::bootstrap::Bootstrap;
use crate::bulk::Bulk;
use crate::consumers::{self, Role};
use crate::inbox::Handler;
use crate::kafka::{Producer, Signing};
use crate::loops::Loops;
use crate::lost::{Commander, Losses, Lost};
use crate::outbox::{
    FirstAttempts, InFlight, LetOff, Listener, Observer, Outbox, OverdueMonitor, Policy, Relay,
    RelayParts, Settler,
};
use crate::peer::Peer;
use crate::restored::{ReadPositions, Restorer, Side};
use crate::resync::Resync;
use crate::retention::ForgetOwn;
use crate::stats::{SampleGauges, Sampler};
use crate::verify::{Collection, Remote, Replicas, Verifier};
use crate::views::{CopiedView, ViewCopy};

/// What a service's own parts are made from, before the engine around them is: see [`Hooks`].
#[derive(Clone)]
pub struct HookContext {
    /// What the service was told.
    pub settings: Arc<Settings>,
    /// Time, ids and chance.
    pub env: Env,
    /// Its own database.
    pub db: Db,
    /// Where a handler or a listener puts events that follow from others.
    pub outbox: Outbox,
    /// Who waits within this process for something to be committed.
    pub signals: Signals,
}

/// Where a service takes part in the loop.
pub struct Hooks {
    /// Whether it has events of its own to send.
    pub sends: bool,
    /// What it does with the events of another service, if it receives any.
    pub handler: Option<Arc<dyn Handler>>,
    /// Who acts on what becomes of its own events, in the same transaction.
    pub listener: Option<Arc<dyn Listener>>,
    /// What deletes old rows of its own tables.
    pub forget: Option<ForgetOwn>,
    /// What it owns or copies, if that is to be verified and repaired.
    pub collection: Option<Collection>,
    /// What it knows of its commands, if it sends any whose effect can be lost.
    pub commander: Option<Arc<dyn Commander>>,
    /// The view that it keeps a copy of, if any.
    pub view: Option<CopiedView>,
}

impl Hooks {
    /// Sends events, receives none, and leaves failed ones to operators.
    pub fn sends_only() -> Self {
        Self {
            sends: true,
            handler: None,
            listener: None,
            forget: None,
            collection: None,
            commander: None,
            view: None,
        }
    }
}

/// How long a step of the relay waits for a broker: one that needs longer is no reason to hold up other partitions.
const RELAY_PATIENCE: Duration = Duration::from_millis(20);

/// The engine of one service; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// Its configuration.
    pub settings: Arc<Settings>,
    /// Time, ids and chance.
    pub env: Env,
    /// The service's own database.
    pub db: Db,
    /// Where changes put their events.
    pub outbox: Outbox,
    /// Alerts, and the mails and webhook calls that tell people.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the steps of traces are written down.
    pub spans: Spans,
    /// What is sampled.
    pub sampler: Sampler,
    /// What is known of the broker.
    pub broker: BrokerState,
    /// Whether its loops live and get on.
    pub loops: LoopStates,
    /// What sends messages; it connects in the background, so no broker need be there yet.
    pub producer: Producer,
    /// Keyed writes under way.
    pub keys: KeysInProgress,
    /// Who waits within this process for something to be committed.
    pub signals: Signals,
    /// Cancelled when the service begins to stop: whatever would hold a connection open ends then.
    pub stopping: CancellationToken,
    /// Actions on many events.
    pub bulk: Bulk,
    /// The other service.
    pub peer: Peer,
    /// The consumers of this service's events that can be asked what they have, by their names.
    pub remotes: Arc<BTreeMap<String, Remote>>,
    /// What receives the other service's events, if anything does.
    pub handler: Option<Arc<dyn Handler>>,
    /// Whether there are events of its own to send.
    pub sends: bool,
    /// What it owns or copies.
    pub collection: Option<Collection>,
    /// What compares consumers with what it owns, if it owns anything.
    pub verifier: Option<Verifier>,
    /// States that are sent again.
    pub resync: Resync,
    /// What mends a database that came back from a backup, where there is a copy.
    pub restorer: Option<Restorer>,
    /// What finds and settles its lost commands, if it sends any.
    pub lost: Option<Lost>,
    /// What fills copies that are not complete, if it owns anything.
    pub bootstrap: Option<Bootstrap>,
    /// The copy of a view, if it keeps one.
    pub view: Option<ViewCopy>,
    pub(crate) in_flight: InFlight,
    /// What deletes old rows of the service's own tables.
    pub(crate) forget: Option<ForgetOwn>,
}

impl Engine {
    /// Opens the database, brings its schema up to date and makes the parts, and the loops that run them; no loop runs yet (the producer already looks for its broker).
    ///
    /// `public_url` is the base of links to this service; `hooks` makes the service's own parts.
    ///
    /// # Errors
    /// One line that says what is wrong with the database or a setting, and what to do.
    pub async fn open(
        settings: Settings,
        env: Env,
        migrations: &'static [MigrationSet],
        public_url: &str,
        hooks: impl FnOnce(&HookContext) -> Hooks,
    ) -> anyhow::Result<(Self, Loops)> {
        let db = open_database(&settings, migrations).await?;
        let (engine, loops) = Self::with_database(db, settings, env, public_url, hooks)?;
        engine.register_consumers().await?;
        engine.begin_copy().await?;
        Ok((engine, loops))
    }

    /// The same on a database that is open and up to date.
    ///
    /// # Errors
    /// One line that says which setting is wrong.
    pub fn with_database(
        db: Db,
        settings: Settings,
        env: Env,
        public_url: &str,
        hooks: impl FnOnce(&HookContext) -> Hooks,
    ) -> anyhow::Result<(Self, Loops)> {
        let (spans, collector) = Spans::new(&settings.trace, &settings.service.name, env.clone())?;
        let outbox = Outbox::new(env.clone(), settings.outbox.max_attempts, spans.clone());
        let settings = Arc::new(settings);
        let context = HookContext { settings, env, db, outbox, signals: Signals::default() };
        let hooks = hooks(&context);
        let (view, service) = (&context.settings.views, &context.settings.service.name);
        anyhow::ensure!(
            hooks.view.is_some() || view.purchases_topic.is_empty(),
            "views.purchases_topic is {}, and {service} keeps no copy of a view; set it for order-service, and leave it out here",
            view.purchases_topic
        );
        let engine = Self::assemble(context, spans, public_url, hooks)?;
        let DatabaseSettings { loop_pool_size, connect_timeout, .. } = engine.settings.database;
        // Requests that queue for connections must not keep the loops waiting.
        let db = engine.db.with_own_pool(loop_pool_size, connect_timeout);
        let verifier =
            engine.verifier.clone().map(|verifier| Verifier { db: db.clone(), ..verifier });
        let restorer =
            engine.restorer.clone().map(|restorer| Restorer { db: db.clone(), ..restorer });
        let bootstrap =
            engine.bootstrap.clone().map(|bootstrap| Bootstrap { db: db.clone(), ..bootstrap });
        let lost = engine.lost.clone().map(|lost| Lost { db: db.clone(), ..lost });
        let view = engine.view.clone().map(|view| ViewCopy { db: db.clone(), ..view });
        let background = Self { db, verifier, restorer, lost, bootstrap, view, ..engine.clone() };
        Ok((engine, Loops::new(background, collector)))
    }

    fn assemble(
        context: HookContext,
        spans: Spans,
        public_url: &str,
        hooks: Hooks,
    ) -> anyhow::Result<Self> {
        let HookContext { settings, env, db, outbox, signals } = context;
        let (sampler, broker) = (Sampler::new(&settings.kafka), BrokerState::new(env.clone()));
        let name = &settings.service.name;
        let signing = Signing::new(&settings.signing)?;
        if signing.is_on() && settings.outbox.relay.is_external() {
            tracing::warn!(
                service = name,
                "the external relay does not sign what it sends: whoever receives it can't have signing.require = \"all\""
            );
        }
        let alerts =
            Alerts::new(name, public_url, &settings.alerts, &settings.mail, &settings.webhook)?;
        let peer = Peer::new(&settings.peer)?;
        let verifier =
            hooks.collection.as_ref().and_then(Collection::owner).map(|owner| Verifier {
                tombstones: settings.retention.removed_products,
                patience: settings.verify.patience,
                first: settings.kafka.outbound_consumer.clone(),
                topic: settings.kafka.outbound_topic.clone(),
                ..Verifier::new(&db, &env, name, owner)
            });
        let remotes = Arc::new(remotes(&settings, &peer)?);
        let restorer = hooks.collection.as_ref().map(|collection| Restorer {
            db: db.clone(),
            env: env.clone(),
            service: name.clone(),
            other: settings.kafka.outbound_consumer.clone(),
            consumers: remotes.keys().cloned().collect(),
            side: if collection.owner().is_some() { Side::Owner } else { Side::Copy },
            peer: peer.clone(),
            timeout: settings.verify.timeout,
            woken: Arc::default(),
        });
        let owner = hooks.collection.as_ref().and_then(Collection::owner);
        // Only an owner has what copies are compared with.
        let verifiable = owner.iter().flat_map(|_| remotes.keys().cloned()).collect();
        let lost = hooks.commander.map(|commander| Lost {
            db: db.clone(),
            env: env.clone(),
            service: name.clone(),
            receiver: settings.kafka.outbound_consumer.clone(),
            peer: peer.clone(),
            timeout: settings.verify.timeout,
            kept: settings.outbox.retention,
            commander,
            woken: Arc::default(),
        });
        let copied = hooks.view.map(|view| ViewCopy::new(db.clone(), env.clone(), view));
        let view = match settings.views.purchases_ack_topic.is_empty() {
            true => copied,
            false => copied.map(|copy| copy.answering_as(name)),
        };
        Ok(Self {
            verifier,
            view,
            lost,
            bootstrap: owner
                .map(|owner| Bootstrap::new(&db, &env, owner, &settings.kafka.outbound_topic)),
            restorer,
            resync: Resync::default(),
            collection: hooks.collection,
            outbox: outbox.with_listener(hooks.listener),
            in_flight: InFlight::new(
                settings.outbox.in_flight_events,
                settings.outbox.in_flight_bytes,
            ),
            metrics: metrics(&sampler, &broker, verifiable),
            producer: Producer::new(&settings.kafka, name, broker.clone())?.signed_by(signing),
            remotes,
            peer,
            bulk: Bulk::default(),
            keys: KeysInProgress::default(),
            stopping: CancellationToken::new(),
            loops: LoopStates::default(),
            handler: hooks.handler,
            sends: hooks.sends,
            forget: hooks.forget,
            settings,
            env,
            db,
            alerts,
            spans,
            sampler,
            broker,
            signals,
        })
    }

    /// The numbers that an event's transitions go by, and the listener that is told of them.
    pub fn policy(&self) -> Policy {
        let outbox = &self.settings.outbox;
        Policy {
            backoff: Backoff { base: outbox.backoff_base, max: outbox.backoff_max },
            listener: self.outbox.listener().cloned(),
        }
    }

    /// What sends the events.
    pub fn relay(&self) -> Relay {
        let settings = &self.settings;
        Relay::new(RelayParts {
            db: self.db.clone(),
            env: self.env.clone(),
            first_attempts: FirstAttempts::of(&settings.outbox),
            producer: Arc::new(self.producer.clone()),
            policy: self.policy(),
            in_flight: self.in_flight.clone(),
            spans: self.spans.clone(),
            service: settings.service.name.clone(),
            topic: settings.kafka.outbound_topic.clone(),
            batch: settings.outbox.batch,
            patience: RELAY_PATIENCE,
            woken: Arc::clone(self.outbox.notify()),
        })
    }

    /// What reads what another program sends for this service.
    pub fn observer(&self) -> Observer {
        let Settings { service, kafka, outbox, .. } = &*self.settings;
        let first_attempts = FirstAttempts::of(outbox);
        Observer::new(&self.db, &self.env, first_attempts, &service.name, &kafka.outbound_topic)
    }

    /// What looks after the events that were sent.
    pub fn overdue_monitor(&self) -> OverdueMonitor {
        let outbox = &self.settings.outbox;
        OverdueMonitor {
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

    /// What turns answers into states.
    pub fn settler(&self) -> Settler {
        Settler {
            env: self.env.clone(),
            policy: self.policy(),
            topic: self.settings.kafka.outbound_topic.clone(),
            consumer: self.settings.kafka.outbound_consumer.clone(),
            positions: ReadPositions::new(
                &self.settings.service.name,
                &self.settings.kafka.outbound_ack_topic,
            ),
            owner: self.collection.as_ref().and_then(Collection::owner),
            first_attempts: FirstAttempts::of(&self.settings.outbox),
            signing: self.producer.signing().clone(),
        }
    }

    /// What settles events that wait for a consumer which is asked no more.
    pub fn let_off(&self) -> LetOff {
        LetOff {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: self.policy(),
            first: self.settings.kafka.outbound_consumer.clone(),
        }
    }

    /// Registers the consumers that the settings name.
    ///
    /// # Errors
    /// When the database fails, or a name can't be one.
    pub async fn register_consumers(&self) -> anyhow::Result<()> {
        let role = |one: &ConsumerSettings| match one.required {
            true => Role::Required,
            false => Role::Watched,
        };
        let named = self.settings.consumers.iter();
        let others = named.map(|(name, one)| (name.clone(), role(one))).collect();
        let first = self.settings.kafka.outbound_consumer.clone();
        let (since, now) = (self.env.event_id(), self.env.now());
        let registered = self.db.write::<_, DbError>(move |conn| {
            Ok(consumers::sync(conn, &first, &others, since, now))
        });
        for told in registered.await?? {
            tracing::info!("{told}");
        }
        Ok(())
    }

    /// Notes that there is a copy, where this service has one: its owner fills it.
    async fn begin_copy(&self) -> Result<(), DbError> {
        if !matches!(self.collection, Some(Collection::Copied(_))) {
            return Ok(());
        }
        let copy_id = self.env.event_id().to_string();
        self.db.write(move |conn| Ok(copy_state::begin(conn, &copy_id)?)).await
    }

    /// What other services are told of what this one holds.
    pub fn replicas(&self) -> Replicas {
        Replicas {
            service: self.settings.service.name.clone(),
            db: self.db.clone(),
            env: self.env.clone(),
            tombstones: self.settings.retention.removed_products,
            collection: self.collection.clone(),
        }
    }

    /// What this service tells others after a restore, and is told.
    pub fn losses(&self) -> Losses {
        let receives = self.handler.is_some();
        Losses {
            service: self.settings.service.name.clone(),
            db: self.db.clone(),
            env: self.env.clone(),
            inbox: receives.then_some(self.settings.inbox.retention),
            lost: self.lost.clone(),
        }
    }

    /// What log lines of this service come from.
    pub fn log_span(&self) -> tracing::Span {
        // On the level that passes every filter: it only names, and logs nothing by itself.
        tracing::error_span!("service", service = self.settings.service.name)
    }
}

/// Where consumers are asked what they have: the first one is the peer.
fn remotes(settings: &Settings, peer: &Peer) -> anyhow::Result<BTreeMap<String, Remote>> {
    let timeout = settings.verify.timeout;
    let first = settings.kafka.outbound_consumer.clone();
    let mut remotes = BTreeMap::new();
    for (name, one) in settings.consumers.iter().filter(|(_, one)| !one.url.is_empty()) {
        let section = format!("consumers.{name}");
        let peer = Peer::at(&section, &one.url, &one.ca_file, &one.api_token, timeout)?;
        remotes.insert(name.clone(), Remote { consumer: name.clone(), peer, section, timeout });
    }
    let (peer, section) = (peer.clone(), "peer".to_owned());
    remotes.insert(first.clone(), Remote { consumer: first, peer, section, timeout });
    Ok(remotes)
}

fn metrics(sampler: &Sampler, broker: &BrokerState, verifiable: Vec<String>) -> Metrics {
    let gauges = SampleGauges { sampler: sampler.clone(), broker: broker.clone(), verifiable };
    Metrics::new(sampler.consumer(), Box::new(gauges))
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
