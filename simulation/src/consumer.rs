//! One of the services that receive: the engine's inbox, with a handler that does as the script says.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, MemoryDatabase};
use common::event::{Event, EventKind, EventType};
use common::on;
use common::telemetry::Spans;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryResult, RunQueryDsl, sql_query};
use engine::alerts::{AlertKind, Condition};
use engine::batch::BatchError;
use engine::copies::{Copied, CopiedState, CopyTable};
use engine::inbox::{
    AckRoutes, Applied, Control, CopyVersion, Detail, EventSource, Handler, HandlerOutcome, Inbox,
    InboxConsumer,
};
use engine::kafka::{BatchLimits, Record};
use engine::restored::ReadPositions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::broker::{ACKS, Broker, Courier, EVENTS, OVERSIZED, Who};
use crate::flaw::Flaw;
use crate::instance::{ACK_TIMEOUT, FIRST_CONSUMER, Surroundings};
use crate::lock;
use crate::script::INSTANCES;
use crate::violation::Violation;
use crate::way::Way;

/// The consumers, the one of the settings first.
pub(crate) const CONSUMERS: [&str; 2] = [FIRST_CONSUMER, "search-service"];

/// The state of a product.
pub(crate) const CHANGED: EventType =
    EventType { name: "simulation.changed", kind: EventKind::Snapshot };

/// Something to be done once.
pub(crate) const ORDERED: EventType =
    EventType { name: "simulation.ordered", kind: EventKind::Command };

/// The same, too large for the broker.
pub(crate) const TOO_LARGE: EventType = EventType { name: OVERSIZED, kind: EventKind::Command };

/// Where it is noted how often an order was carried out.
pub(crate) const EFFECTS: &str =
    "CREATE TABLE effect (event_id TEXT PRIMARY KEY, times BIGINT NOT NULL)";

/// Messages of one batch at the most.
const BATCH: BatchLimits = BatchLimits::new(10, Duration::ZERO);

const ENDLESS: &str = "no consumer ends by itself";

/// One service that receives.
pub(crate) struct Consumer {
    pub(crate) name: &'static str,
    pub(crate) database: MemoryDatabase,
    pub(crate) way: Arc<Way>,
    pub(crate) who: Who,
    around: Surroundings,
    part: u64,
    shop: Shop,
    /// The newest has the partitions; one before it may still be at what it got.
    members: VecDeque<Member>,
    births: u64,
}

/// One process of it.
struct Member {
    give: mpsc::UnboundedSender<Vec<Record>>,
    is_dead: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Consumer {
    /// The one number `place`, with its first process.
    pub(crate) fn start(
        around: &Surroundings,
        place: usize,
        database: &MemoryDatabase,
    ) -> Result<Self, Violation> {
        let flaw = around.flaw.map_or("", Flaw::of_a_consumer);
        database.run(|conn| conn.batch_execute(flaw))?;
        let part = (INSTANCES + place) as u64;
        let mut consumer = Self {
            name: CONSUMERS.get(place).copied().unwrap_or(FIRST_CONSUMER),
            database: database.clone(),
            way: around.way(part, 0),
            who: Who::Consumer(place),
            around: around.clone(),
            part,
            shop: Shop { fails: Arc::default(), flaw: around.flaw },
            members: VecDeque::new(),
            births: 0,
        };
        consumer.join();
        Ok(consumer)
    }

    /// A new process gets the partitions; the one before it goes on with what it has.
    pub(crate) fn join(&mut self) {
        self.births += 1;
        let member = self.member();
        self.members.push_back(member);
        while self.members.len() > 2 {
            self.members.pop_front().iter().for_each(Member::kill);
        }
    }

    /// All of its processes die, and a new one starts.
    pub(crate) fn crash(&mut self) {
        self.members.drain(..).for_each(|member| member.kill());
        self.join();
    }

    /// Gives it what comes next in a partition.
    pub(crate) fn deliver(&self, partition: usize, most: usize) {
        let batch = self.around.broker.take(self.who, partition, most);
        if let (Some(member), false) = (self.members.back(), batch.is_empty()) {
            // One that has ended is found to have.
            _ = member.give.send(batch);
        }
    }

    /// Lets its handler fail the next event.
    pub(crate) fn fail_next(&self, retryable: bool) {
        *lock(&self.shop.fails) = Some(retryable);
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn heal(&self) {
        *lock(&self.shop.fails) = None;
        self.way.heal();
    }

    pub(crate) fn check_alive(&self) -> Result<(), Violation> {
        match self.members.iter().any(|member| member.task.is_finished()) {
            true => Err(Violation::of(ENDLESS, self.name)),
            false => Ok(()),
        }
    }

    fn member(&self) -> Member {
        let (around, name) = (&self.around, self.name);
        let (env, db) = (around.env(self.part, self.births), self.database.open(self.way.clone()));
        let (give, given) = mpsc::unbounded_channel();
        let is_dead = Arc::<AtomicBool>::default();
        let broker = around.broker.clone();
        let from = name.to_owned();
        let courier = Courier { broker: broker.clone(), from, is_dead: Arc::clone(&is_dead) };
        broker.assign(self.who);
        let (alerts, kind) = (around.alerts.clone(), AlertKind::NotApplied);
        let consumer = InboxConsumer {
            inbox: Inbox {
                db: db.clone(),
                env: env.clone(),
                handler: Arc::new(self.shop.clone()),
                consumer: name.to_owned(),
                spans: Spans::off(env.clone()),
                control: Control::default(),
                positions: ReadPositions::new(name, EVENTS),
            },
            source: Source { broker, who: self.who, given: tokio::sync::Mutex::new(given) },
            routes: AckRoutes::new(courier, ACKS),
            batch: BATCH,
            hindered: Condition::new(db, env, alerts, kind, ACK_TIMEOUT),
            is_stuck: AtomicBool::default(),
        };
        let task = tokio::spawn(async move {
            let for_ever = CancellationToken::new();
            Arc::new(consumer).run(&for_ever, |_: &Applied| {}).await;
        });
        Member { give, is_dead, task }
    }
}

impl Member {
    fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// What a process of a consumer gets.
struct Source {
    broker: Broker,
    who: Who,
    given: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<Record>>>,
}

impl EventSource for Source {
    async fn next_batch(&self, _limits: BatchLimits) -> Vec<Record> {
        match self.given.lock().await.recv().await {
            Some(batch) => batch,
            None => pending().await,
        }
    }

    async fn more(&self, _batch: &mut Vec<Record>, _limits: BatchLimits) {}

    async fn keep_alive(&self) {}

    async fn look(&self, _inbox: &Inbox) {}

    fn commit(&self, batch: &[Record]) {
        self.broker.commit(self.who, batch);
    }
}

/// Keeps a copy of products, and carries orders out.
#[derive(Clone)]
struct Shop {
    /// Whether it fails the next event, and if another attempt may pass then.
    fails: Arc<Mutex<Option<bool>>>,
    flaw: Option<Flaw>,
}

impl Handler for Shop {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == ORDERED.name
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        let fails = lock(&self.fails).take();
        let (failed, rest) = events.split_at(usize::from(fails.is_some()).min(events.len()));
        let (orders, changes): (Vec<Event>, Vec<Event>) =
            rest.iter().cloned().partition(|event| self.is_command(&event.event_type));
        let mut copied = CopyTable::<Products>::new().apply(conn, now, &changes)?.into_iter();
        if self.flaw == Some(Flaw::NoGuard) {
            changes.iter().try_for_each(|change| overwrite(conn, change))?;
        }
        let mut carried_out = Vec::with_capacity(orders.len());
        for order in &orders {
            carried_out.push(carry_out(conn, order)?);
        }
        let mut carried_out = carried_out.into_iter();
        let failed = failed.iter().map(|_| HandlerOutcome::Failed {
            error: "the script says so".to_owned(),
            retryable: fails.unwrap_or_default(),
        });
        let rest = rest.iter().filter_map(|event| match self.is_command(&event.event_type) {
            true => carried_out.next(),
            false => copied.next(),
        });
        Ok(failed.chain(rest).collect())
    }

    fn copy_version(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        CopyTable::<Products>::new().copy_version(conn, key)
    }
}

/// The engine's own copy of what the products are.
struct Products;

impl Copied for Products {
    const COLLECTION: &'static str = "products";
    const FIELDS: &'static [&'static str] = &[];

    fn read(event: &Event) -> Result<CopiedState, String> {
        let version = version_of(event).ok_or("it has no version")?;
        Ok(CopiedState {
            key: event.key.clone(),
            removed: false,
            version: CopyVersion { epoch: event.epoch, version },
            updated_at: event.time,
            content: Vec::new(),
        })
    }

    fn on_changed(_conn: &mut Conn, _states: &[&CopiedState]) -> QueryResult<()> {
        Ok(())
    }
}

fn version_of(event: &Event) -> Option<i64> {
    let data: serde_json::Value = serde_json::from_slice(&event.data).ok()?;
    data.get("version")?.as_i64()
}

/// Its data is `true` where it is to be rejected.
fn carry_out(conn: &mut Conn, order: &Event) -> QueryResult<HandlerOutcome> {
    if order.data == b"true" {
        return Ok(HandlerOutcome::Rejected { result: serde_json::Value::Null });
    }
    let once_more = "INSERT INTO effect (event_id, times) VALUES ($1, 1) \
                     ON CONFLICT (event_id) DO UPDATE SET times = times + 1";
    let id = order.id.to_string();
    on!(conn, c => sql_query(once_more).bind::<Text, _>(id).execute(c))?;
    Ok(HandlerOutcome::Success { detail: Detail::Applied, version: None, result: None })
}

/// As a copy would that knows no versions.
fn overwrite(conn: &mut Conn, change: &Event) -> QueryResult<()> {
    let (key, version) = (change.key.as_str(), version_of(change).unwrap_or_default());
    let update = sql_query("UPDATE copied_state SET version = $1 WHERE key = $2")
        .bind::<BigInt, _>(version)
        .bind::<Text, _>(key);
    on!(conn, c => update.execute(c)).map(drop)
}
