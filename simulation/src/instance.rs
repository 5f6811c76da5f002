//! One instance of the service that sends: the engine's jobs, a step of each at a time, begun when the script says so.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::db::{Db, DbError, MemoryDatabase};
use common::env::Env;
use common::on;
use common::retry::Backoff;
use common::schema::relay_lease;
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::alerts::Alerts;
use engine::outbox::{
    FirstAttempts, InFlight, LeaseSet, LetOff, Outbox, OverdueMonitor, Policy, Relay, RelayParts,
    Settler, renew,
};
use engine::restored::ReadPositions;
use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::broker::{ACKS, Broker, Courier, EVENTS, Who};
use crate::clock::RunClock;
use crate::flaw::Flaw;
use crate::lock;
use crate::script::Job;
use crate::violation::Violation;
use crate::way::Way;

/// The service that sends.
pub(crate) const SENDER: &str = "product-service";

/// The consumer that its settings name.
pub(crate) const FIRST_CONSUMER: &str = "order-service";

/// How long an answer may take.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Events that a partition may hold unanswered.
pub(crate) const CAP: usize = 4;

const ACK_GRACE: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_millis(5);
const ATTEMPTS: i32 = 3;
const PROBES: Backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(10) };
const POLICY: Policy = Policy {
    backoff: Backoff { base: Duration::from_millis(200), max: Duration::from_secs(1) },
    listener: None,
};

/// Answers that are settled together: few, so that others come in between.
const ANSWERS: usize = 3;

/// Steps in which a consumer is let off at the most.
const LET_OFF_STEPS: usize = 20;

const NO_PANIC: &str = "no part panics";

/// What all parts of a run share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) seed: u64,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) clock: RunClock,
    pub(crate) broker: Broker,
    pub(crate) alerts: Alerts,
}

impl Surroundings {
    /// Time, ids and chance of the part number `part`, of which no two clocks show the same.
    pub(crate) fn env(&self, part: u64, birth: u64) -> Env {
        let ahead =
            Duration::from_millis(part * 700 * (self.seed % 4)) + Duration::from_micros(part);
        Env::seeded(Arc::new(self.clock.ahead_by(ahead)), self.number(part, birth))
    }

    /// The way of that part to its database.
    pub(crate) fn way(&self, part: u64, birth: u64) -> Arc<Way> {
        Way::new(self.number(part, birth))
    }

    fn number(&self, part: u64, birth: u64) -> u64 {
        self.seed.wrapping_mul(1_000).wrapping_add(birth * 10 + part)
    }
}

/// One process of the service, from its start to its death.
pub(crate) struct Instance {
    pub(crate) outbox: Outbox,
    pub(crate) way: Arc<Way>,
    engine: Arc<Engine>,
    is_dead: Arc<AtomicBool>,
    jobs: BTreeMap<Job, JoinHandle<Done>>,
}

/// What became of a step: where it failed, the script says when it is tried again.
type Done = Result<(), Box<dyn Error + Send + Sync>>;

impl Instance {
    /// The `birth`th process of the run, in this place.
    pub(crate) fn start(
        around: &Surroundings,
        database: &MemoryDatabase,
        place: usize,
        birth: u64,
    ) -> Self {
        let part = place as u64;
        let (env, way) = (around.env(part, birth), around.way(part, birth));
        let (db, is_dead) = (database.open(way.clone()), Arc::<AtomicBool>::default());
        let name = format!("instance {place}, birth {birth}");
        let broker = around.broker.clone();
        broker.assign(Who::Instance(place));
        let courier = Courier { broker, from: name.clone(), is_dead: Arc::clone(&is_dead) };
        Self {
            outbox: Outbox::new(env.clone(), ATTEMPTS, Spans::off(env.clone())),
            way,
            engine: Arc::new(Engine::new(around, place, name, db, env, courier)),
            is_dead,
            jobs: BTreeMap::new(),
        }
    }

    /// Begins a step of `job`, unless one is under way.
    pub(crate) fn begin(&mut self, job: Job) {
        if !self.jobs.contains_key(&job) {
            let engine = Arc::clone(&self.engine);
            self.jobs.insert(job, tokio::spawn(async move { engine.run(job).await }));
        }
    }

    /// It dies, with all that it has in memory.
    pub(crate) fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
        self.jobs.values().for_each(JoinHandle::abort);
    }

    /// Forgets the steps that have ended.
    pub(crate) fn reap(&mut self) -> Result<(), Violation> {
        let ended = self.jobs.iter().filter(|(_, running)| running.is_finished());
        let ended: Vec<Job> = ended.map(|(job, _)| *job).collect();
        for job in ended {
            let said = self.jobs.remove(&job).and_then(FutureExt::now_or_never);
            if let Some(Err(flaw)) = said {
                return Err(Violation::of(NO_PANIC, format!("{job:?}: {flaw}")));
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
    flaw: Option<Flaw>,
    db: Db,
    env: Env,
    broker: Broker,
    alerts: Alerts,
    held: Mutex<LeaseSet>,
    relay: Relay,
    in_flight: InFlight,
    settler: Settler,
    monitor: OverdueMonitor,
    let_off: LetOff,
}

impl Engine {
    fn new(
        around: &Surroundings,
        place: usize,
        name: String,
        db: Db,
        env: Env,
        courier: Courier,
    ) -> Self {
        let in_flight = InFlight::new(CAP, 1 << 20);
        let relay = Relay::new(RelayParts {
            db: db.clone(),
            env: env.clone(),
            first_attempts: FirstAttempts::Ours,
            producer: Arc::new(courier),
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
        };
        let monitor = OverdueMonitor {
            db: db.clone(),
            env: env.clone(),
            policy: POLICY,
            topic: EVENTS.to_owned(),
            consumer: FIRST_CONSUMER.to_owned(),
            ack_timeout: ACK_TIMEOUT,
            ack_grace: ACK_GRACE,
            probes: PROBES,
        };
        let first = FIRST_CONSUMER.to_owned();
        let let_off = LetOff { db: db.clone(), env: env.clone(), policy: POLICY, first };
        Self {
            place,
            held: Mutex::new(LeaseSet::nothing(name.clone())),
            name,
            flaw: around.flaw,
            db,
            env,
            broker: around.broker.clone(),
            alerts: around.alerts.clone(),
            relay,
            in_flight,
            settler,
            monitor,
            let_off,
        }
    }

    async fn run(&self, job: Job) -> Done {
        match job {
            Job::Renew => self.renew().await,
            Job::Relay => self.send().await,
            Job::Watch => self.watch().await,
            Job::Settle => self.settle().await,
            Job::Mail => self.mail().await,
        }
    }

    async fn renew(&self) -> Done {
        let renewed = renew(&self.db, &self.name, LEASE).await?;
        *lock(&self.held) = renewed;
        Ok(())
    }

    async fn send(&self) -> Done {
        let held = match self.flaw {
            Some(Flaw::NoFence) => self.leases_of_another().await?,
            _ => self.held(),
        };
        self.relay.run_once(&held).await?;
        Ok(())
    }

    async fn watch(&self) -> Done {
        self.relay.forget_topology();
        if !self.held().is_first() {
            return Ok(());
        }
        self.monitor.run_once(&self.relay).await?;
        for _ in 0..LET_OFF_STEPS {
            let generation = self.in_flight.generation();
            let Some(done) = self.let_off.run_once().await? else { break };
            self.in_flight.settled(generation, &done.released);
        }
        Ok(())
    }

    /// Offsets are committed after the settling, as in the engine's own loop.
    async fn settle(&self) -> Done {
        let own = Who::Instance(self.place);
        let records = self.broker.take(own, self.place, ANSWERS);
        if records.is_empty() {
            return Ok(());
        }
        let generation = self.in_flight.generation();
        match self.settler.settle(&self.db, records.clone(), false).await {
            Ok(settlement) => {
                self.in_flight.settled(generation, &settlement.advanced.released);
                self.broker.commit(own, &records);
                Ok(())
            }
            Err(error) => {
                self.broker.assign(own);
                Err(error.into())
            }
        }
    }

    async fn mail(&self) -> Done {
        self.alerts.run_once(&self.db, &self.env).await?;
        Ok(())
    }

    fn held(&self) -> LeaseSet {
        lock(&self.held).clone()
    }

    /// The leases of whoever else has some; its own, if nobody does.
    async fn leases_of_another(&self) -> Result<LeaseSet, DbError> {
        let leases = self.db.read::<_, DbError>(|conn| {
            let all =
                relay_lease::table.filter(relay_lease::owner.ne("")).order(relay_lease::shard);
            let columns = (relay_lease::owner, relay_lease::shard, relay_lease::token);
            Ok(on!(conn, c => all.select(columns).load::<(String, i16, i64)>(c))?)
        });
        let leases = leases.await?;
        let another = leases.iter().map(|(owner, ..)| owner).find(|owner| **owner != self.name);
        let Some(owner) = another.cloned() else { return Ok(self.held()) };
        let own = leases.iter().filter(|(holder, ..)| *holder == owner);
        let tokens = own.map(|(_, shard, token)| (*shard, *token)).collect();
        Ok(LeaseSet { owner, tokens, others: true, until: Instant::now() + LEASE })
    }
}
