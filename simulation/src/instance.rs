//! One instance of the service that sends: the engine's jobs, a step of each at a time, begun when the script says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::db::{Db, MemoryDatabase};
use common::env::Env;
use common::retry::Backoff;
use common::telemetry::Spans;
use engine::kafka::Signing;
use engine::outbox::{
    FirstAttempts, InFlight, LeaseSet, LetOff, Outbox, OverdueMonitor, Policy, Relay, RelayParts,
    Settler, renew,
};
use engine::restored::ReadPositions;
use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{ACKS, Courier, EVENTS};
use crate::flaw::Flaw;
use crate::lock;
use crate::script::{INSTANCES, Job};
use crate::surroundings::{ACK_TIMEOUT, FIRST_CONSUMER, SENDER, Surroundings};
use crate::violation::Violation;
use crate::way::{BROKE, Way};

/// Events that a partition may hold unanswered, as far as one instance knows.
pub(crate) const CAP: usize = 2;

const ACK_GRACE: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_millis(5);
const ATTEMPTS: i32 = 3;
const PROBES: Backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(10) };
const POLICY: Policy = Policy {
    backoff: Backoff { base: Duration::from_millis(200), max: Duration::from_secs(1) },
    listener: None,
};

/// Messages with answers that are settled together: few, so that others come in between.
const ANSWERS: usize = 3;

const NO_FLAW: &str = "jobs: none panics, and none fails but of a way that the script breaks";

/// One process of the service, which dies, with all that it has in memory, when this is dropped.
pub(crate) struct Instance {
    pub(crate) outbox: Outbox,
    pub(crate) way: Arc<Way>,
    engine: Arc<Engine>,
    /// Where a step failed, the script says when it is tried again.
    jobs: BTreeMap<Job, AbortOnDropHandle<anyhow::Result<()>>>,
    _death: DropGuard,
}

impl Instance {
    /// The `birth`th process of the run, in this place.
    pub(crate) fn start(
        around: &Surroundings,
        database: &MemoryDatabase,
        place: usize,
        birth: u64,
    ) -> Self {
        let (env, way) = (around.env(place, birth), around.way(place, birth));
        let (db, death) = (database.open(way.clone()), CancellationToken::new());
        let name = format!("instance {place}, birth {birth}");
        let partition = i32::try_from(place).unwrap_or_default();
        lock(&around.broker).assign(SENDER, partition..partition + 1);
        lock(&around.leases).remove(&place);
        let (broker, from) = (Arc::clone(&around.broker), name.clone());
        let cap = if around.flaw == Some(Flaw::NoCap) { 1_000 } else { CAP };
        let in_flight = InFlight::new(cap, 1 << 20);
        let relay = Relay::new(RelayParts {
            db: db.clone(),
            env: env.clone(),
            first_attempts: FirstAttempts::Ours,
            producer: Arc::new(Courier { broker, from, death: death.clone() }),
            policy: POLICY,
            in_flight: in_flight.clone(),
            spans: Spans::off(env.clone()),
            service: SENDER.to_owned(),
            topic: EVENTS.to_owned(),
            batch: 5,
            patience: PATIENCE,
            woken: Arc::new(Notify::new()),
        });
        let settler = Settler {
            env: env.clone(),
            policy: POLICY,
            topic: EVENTS.to_owned(),
            consumer: FIRST_CONSUMER.to_owned(),
            positions: ReadPositions::new(SENDER, ACKS),
            owner: None,
            first_attempts: FirstAttempts::Ours,
            signing: Signing::default(),
        };
        let outbox = Outbox::new(env.clone(), ATTEMPTS, Spans::off(env.clone()));
        let around = around.clone();
        let engine = Engine { place, name, around, db, env, partition, relay, in_flight, settler };
        let (engine, jobs, _death) = (Arc::new(engine), BTreeMap::new(), death.drop_guard());
        Self { outbox, way, engine, jobs, _death }
    }

    /// Begins a step of `job`, unless one is under way.
    pub(crate) fn begin(&mut self, job: Job) {
        self.jobs.entry(job).or_insert_with(|| {
            let engine = Arc::clone(&self.engine);
            AbortOnDropHandle::new(tokio::spawn(async move { engine.run(job).await }))
        });
    }

    /// Forgets the steps that have ended.
    pub(crate) fn reap(&mut self) -> Result<(), Violation> {
        let ended = self.jobs.iter().filter(|(_, step)| step.is_finished());
        let ended: Vec<Job> = ended.map(|(job, _)| *job).collect();
        for job in ended {
            let flaw = match self.jobs.remove(&job).and_then(FutureExt::now_or_never) {
                Some(Err(panicked)) => panicked.to_string(),
                Some(Ok(Err(error))) => format!("{error:#}"),
                _ => continue,
            };
            if !flaw.contains(BROKE) {
                return Err(Violation::of(NO_FLAW, format!("{job:?}: {flaw}")));
            }
        }
        Ok(())
    }

    /// Whether no step is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// The engine's parts, as its own loops run them.
struct Engine {
    place: usize,
    name: String,
    around: Surroundings,
    db: Db,
    env: Env,
    /// The partition of the answers that it reads.
    partition: i32,
    relay: Relay,
    in_flight: InFlight,
    settler: Settler,
}

impl Engine {
    async fn run(&self, job: Job) -> anyhow::Result<()> {
        match job {
            Job::Renew => {
                let renewed = renew(&self.db, &self.name, LEASE).await?;
                lock(&self.around.leases).insert(self.place, renewed);
            }
            Job::Relay => _ = self.relay.run_once(&self.held()).await?,
            Job::Watch => self.watch().await?,
            Job::Settle => self.settle().await?,
            Job::Mail => _ = self.around.alerts.run_once(&self.db, &self.env).await?,
        }
        Ok(())
    }

    async fn watch(&self) -> anyhow::Result<()> {
        self.relay.forget_topology();
        if !self.held().is_first() {
            return Ok(());
        }
        let (db, env, first) = (self.db.clone(), self.env.clone(), FIRST_CONSUMER.to_owned());
        let let_off = LetOff { db, env, policy: POLICY, first };
        let monitor = OverdueMonitor {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: POLICY,
            topic: EVENTS.to_owned(),
            consumer: FIRST_CONSUMER.to_owned(),
            ack_timeout: ACK_TIMEOUT,
            ack_grace: ACK_GRACE,
            probes: PROBES,
        };
        monitor.run_once(&self.relay).await?;
        for _ in 0..20 {
            let generation = self.in_flight.generation();
            let Some(done) = let_off.run_once().await? else { break };
            self.in_flight.settled(generation, &done.released);
        }
        Ok(())
    }

    /// Offsets are committed after the settling, as in the engine's own loop.
    async fn settle(&self) -> anyhow::Result<()> {
        let records = lock(&self.around.broker).give(SENDER, self.partition, ANSWERS);
        if records.is_empty() {
            return Ok(());
        }
        let generation = self.in_flight.generation();
        let settled = self.settler.settle(&self.db, records.clone(), false).await;
        let mut broker = lock(&self.around.broker);
        match settled {
            Ok(_) => broker.commit(SENDER, &records),
            Err(_) => broker.assign(SENDER, self.partition..self.partition + 1),
        }
        self.in_flight.settled(generation, &settled?.advanced.released);
        Ok(())
    }

    fn held(&self) -> LeaseSet {
        let place = match self.around.flaw {
            Some(Flaw::NoFence) => INSTANCES - 1 - self.place,
            _ => self.place,
        };
        let told = lock(&self.around.leases).get(&place).cloned();
        told.unwrap_or_else(|| LeaseSet::nothing(self.name.clone()))
    }
}
