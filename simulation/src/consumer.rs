//! One of the services that receive: the engine's inbox and its loop, with a handler that does as the script says.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, MemoryDatabase};
use common::event::{Event, EventKind, EventType};
use common::ids::EventIdSql;
use common::on;
use common::telemetry::Spans;
use diesel::{QueryResult, RunQueryDsl, sql_query};
use engine::alerts::{AlertKind, Condition};
use engine::batch::BatchError;
use engine::copies::{Copied, CopiedState, CopyTable};
use engine::inbox::{
    AckRoutes, Applied, Control, CopyVersion, Detail, EventSource, Handler, HandlerOutcome, Inbox,
    InboxConsumer,
};
use engine::kafka::{BatchLimits, Record, Signing};
use engine::refusals::Refusals;
use engine::restored::ReadPositions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{ACKS, Courier, EVENTS, OVERSIZED, PARTITIONS, SharedBroker};
use crate::lock;
use crate::script::INSTANCES;
use crate::surroundings::{ACK_TIMEOUT, Surroundings};
use crate::violation::Violation;
use crate::way::Way;

/// The state of a product.
pub(crate) const CHANGED: EventType =
    EventType { name: "simulation.changed", kind: EventKind::Snapshot };

/// Something to be done once.
pub(crate) const ORDERED: EventType =
    EventType { name: "simulation.ordered", kind: EventKind::Command };

/// The same, too large for the broker.
pub(crate) const TOO_LARGE: EventType = EventType { name: OVERSIZED, kind: EventKind::Command };

/// Where each carrying out of an order is noted.
pub(crate) const EFFECTS: &str = "CREATE TABLE effect (event_id TEXT NOT NULL)";

/// Messages of one batch at the most.
const BATCH: BatchLimits = BatchLimits::new(10, Duration::ZERO);

const ENDLESS: &str = "no consumer ends by itself";

/// One service that receives.
pub(crate) struct Consumer {
    pub(crate) name: &'static str,
    pub(crate) database: MemoryDatabase,
    around: Surroundings,
    part: usize,
    shop: Arc<Shop>,
    /// The newest has the partitions; one before it may still be at what it got.
    members: VecDeque<Member>,
    births: u64,
}

/// One process of it, which dies when this is dropped.
struct Member {
    task: AbortOnDropHandle<()>,
    way: Arc<Way>,
    /// What gives it messages.
    give: mpsc::UnboundedSender<Vec<Record>>,
}

impl Consumer {
    /// The one of this `name`, with its first process.
    pub(crate) fn start(
        around: &Surroundings,
        place: usize,
        name: &'static str,
        database: &MemoryDatabase,
    ) -> Self {
        let shop = Shop { fails: Mutex::default(), broker: Arc::clone(&around.broker) };
        let mut consumer = Self {
            name,
            database: database.clone(),
            around: around.clone(),
            part: INSTANCES + place,
            shop: Arc::new(shop),
            members: VecDeque::new(),
            births: 0,
        };
        consumer.join();
        consumer
    }

    /// A new process gets the partitions; the one before it goes on with what it has.
    pub(crate) fn join(&mut self) {
        self.births += 1;
        lock(&self.around.broker).assign(self.name, 0..PARTITIONS);
        let newest = self.bear();
        self.members.push_back(newest);
        if self.members.len() > 2 {
            self.members.pop_front();
        }
    }

    /// A new process.
    fn bear(&self) -> Member {
        let way = self.around.way(self.part, self.births);
        let (give, given) = mpsc::unbounded_channel();
        let consumer = Arc::new(self.engine(Arc::clone(&way), given));
        let task = tokio::spawn(async move {
            let for_ever = CancellationToken::new();
            consumer.run(&for_ever, |_: &Applied| {}).await;
        });
        Member { task: AbortOnDropHandle::new(task), way, give }
    }

    /// The engine's part of a new process, which gets what is `given`.
    fn engine(
        &self,
        way: Arc<Way>,
        given: mpsc::UnboundedReceiver<Vec<Record>>,
    ) -> InboxConsumer<Source, Courier> {
        let (name, around) = (self.name.to_owned(), &self.around);
        let (db, env) = (self.database.open(way), around.env(self.part, self.births));
        let condition = |kind| {
            Condition::new(db.clone(), env.clone(), around.alerts.clone(), kind, ACK_TIMEOUT)
        };
        let hindered = condition(AlertKind::NotApplied);
        let refusals = Refusals::new(&env, &name, EVENTS, condition(AlertKind::NotTrusted));
        // It sends from no task that would outlive it.
        let death = CancellationToken::new();
        let courier = Courier { broker: Arc::clone(&around.broker), from: name.clone(), death };
        InboxConsumer {
            inbox: Inbox {
                db,
                env: env.clone(),
                handler: self.shop.clone(),
                consumer: name,
                spans: Spans::off(env),
                control: Control::default(),
                positions: ReadPositions::new(self.name, EVENTS),
                signing: Signing::default(),
            },
            source: Source {
                broker: Arc::clone(&around.broker),
                reader: self.name,
                given: tokio::sync::Mutex::new(given),
            },
            routes: AckRoutes::new(courier, ACKS),
            batch: BATCH,
            hindered,
            refusals,
            is_stuck: AtomicBool::default(),
        }
    }

    /// All of its processes die, and a new one starts.
    pub(crate) fn crash(&mut self) {
        self.members.clear();
        self.join();
    }

    /// Gives it what comes next in a partition.
    pub(crate) fn deliver(&self, partition: i32, most: usize) {
        let batch = lock(&self.around.broker).give(self.name, partition, most);
        if let (Some(newest), false) = (self.members.back(), batch.is_empty()) {
            // One that has ended is found to have.
            _ = newest.give.send(batch);
        }
    }

    /// Whether its handler fails the next event, and if another attempt may pass then.
    pub(crate) fn fail_next(&self, retryable: Option<bool>) {
        *lock(&self.shop.fails) = retryable;
    }

    /// The way of its newest process to the database.
    pub(crate) fn way(&self) -> Option<&Way> {
        self.members.back().map(|newest| &*newest.way)
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn heal(&self) {
        self.members.iter().for_each(|member| member.way.heal());
        self.fail_next(None);
    }

    pub(crate) fn check_alive(&self) -> Result<(), Violation> {
        match self.members.iter().any(|member| member.task.is_finished()) {
            true => Err(Violation::of(ENDLESS, self.name)),
            false => Ok(()),
        }
    }
}

/// What a process of a consumer gets.
struct Source {
    broker: SharedBroker,
    reader: &'static str,
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
        lock(&self.broker).commit(self.reader, batch);
    }
}

/// Keeps a copy of products, and carries orders out.
struct Shop {
    /// Whether it fails the next event, and if another attempt may pass then.
    fails: Mutex<Option<bool>>,
    broker: SharedBroker,
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
        lock(&self.broker).blamed.extend(failed.iter().map(|event| event.id));
        let is_change = |event: &&Event| event.event_type == CHANGED.name;
        let changes: Vec<Event> = rest.iter().filter(is_change).cloned().collect();
        let mut copied = CopyTable::<Products>::new().apply(conn, now, &changes)?.into_iter();
        let failure = |_| HandlerOutcome::Failed {
            error: "the script says so".to_owned(),
            retryable: fails.unwrap_or_default(),
        };
        let mut outcomes: Vec<HandlerOutcome> = failed.iter().map(failure).collect();
        for event in rest {
            let carried_out = match is_change(&event) {
                true => copied.next(),
                false => Some(carry_out(conn, event)?),
            };
            outcomes.extend(carried_out);
        }
        Ok(outcomes)
    }
}

/// The engine's own copy of what the products are.
struct Products;

impl Copied for Products {
    const COLLECTION: &'static str = "products";
    const FIELDS: &'static [&'static str] = &[];

    fn read(event: &Event) -> Result<CopiedState, String> {
        let version = serde_json::from_slice(&event.data).map_err(|error| error.to_string())?;
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

/// Its data is `true` where it is to be rejected.
fn carry_out(conn: &mut Conn, order: &Event) -> QueryResult<HandlerOutcome> {
    if order.data == b"true" {
        return Ok(HandlerOutcome::Rejected { result: serde_json::Value::Null });
    }
    let note = sql_query("INSERT INTO effect VALUES ($1)").bind::<EventIdSql, _>(order.id);
    on!(conn, c => note.execute(c))?;
    Ok(HandlerOutcome::Success { detail: Detail::Applied, version: None, result: None })
}
