//! All parts of a run, and what each step does to them.

use std::collections::BTreeMap;
use std::iter::once;
use std::time::Duration;

use common::clock::Clock;
use common::db::MemoryDatabase;
use common::event::{EventType, NewEvent};
use common::ids::EventId;
use engine::consumers::{self, Role};
use engine::outbox::operate;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::broker::PARTITIONS;
use crate::checks::{Copied, States, waits};
use crate::consumer::{CHANGED, Consumer, ORDERED, TOO_LARGE};
use crate::flaw::Flaw;
use crate::instance::Instance;
use crate::lock;
use crate::script::{INSTANCES, Job, Script, Step};
use crate::stage::Stage;
use crate::surroundings::{CONSUMERS, FIRST_CONSUMER, SENDER, Surroundings};
use crate::violation::Violation;
use crate::way::Way;

/// How long a step takes. It ends when no part has anything left to do in this moment.
const MOMENT: Duration = Duration::from_millis(1);

/// How long all parts get in a round at the end: longer than a relay waits for the broker.
const TURN: Duration = Duration::from_millis(10);

/// Rounds at the end, and how long after one another.
const ROUNDS: usize = 50;
const PAUSE: Duration = Duration::from_secs(5);

const DRAINS: &str = "I6: once nothing goes wrong any more, all comes to rest";

/// All parts of a run.
pub(crate) struct World {
    pub(crate) around: Surroundings,
    pub(crate) database: MemoryDatabase,
    pub(crate) instances: Vec<Instance>,
    pub(crate) consumers: Vec<Consumer>,
    /// All events that were committed, in this order.
    pub(crate) events: Vec<Committed>,
    /// How each was when it was looked at last.
    pub(crate) states: States,
    /// What the consumers had then.
    pub(crate) copies: Vec<Copied>,
    /// The event that an operator retried in this step.
    pub(crate) retried: Option<EventId>,
    /// Whether the second consumer is asked no more.
    pub(crate) is_retired: bool,
    births: u64,
}

/// An event that was committed.
pub(crate) struct Committed {
    pub(crate) id: EventId,
    pub(crate) key: String,
    /// That of the product; none: a command.
    pub(crate) version: Option<i64>,
    /// Whether it is a command that is rejected.
    pub(crate) is_rejected: bool,
}

impl World {
    /// All parts as they are at the beginning, on databases that are empty.
    pub(crate) fn begin(
        stage: &Stage,
        script: &Script,
        flaw: Option<Flaw>,
    ) -> Result<Self, Violation> {
        let around = Surroundings::new(script.seed, flaw, &stage.clock)?;
        for database in once(&stage.sender).chain(&stage.consumers) {
            database.run(|conn| conn.batch_execute(flaw.map_or("", Flaw::trigger)))?;
        }
        let named = CONSUMERS.into_iter().zip(&stage.consumers).take(script.consumers).enumerate();
        let consumers =
            named.map(|(place, (name, database))| Consumer::start(&around, place, name, database));
        let mut world = Self {
            database: stage.sender.clone(),
            instances: Vec::new(),
            consumers: consumers.collect(),
            events: Vec::new(),
            states: States::new(),
            copies: Vec::new(),
            retried: None,
            is_retired: false,
            births: 0,
            around,
        };
        world.register_consumers()?;
        for place in 0..INSTANCES {
            let instance = world.bear(place);
            world.instances.push(instance);
        }
        Ok(world)
    }

    /// Plays the script, lets everything come to rest, and checks what has to hold then.
    pub(crate) async fn play(
        mut self,
        script: &Script,
        trace: &mut Vec<String>,
    ) -> Result<(), Violation> {
        for step in &script.steps {
            let done = self.perform(*step).await;
            trace.push(format!("{step:?} -> {}", self.describe()));
            done?;
        }
        self.heal();
        for round in 0..ROUNDS {
            let done = self.round().await;
            trace.push(format!("round {round} -> {}", self.describe()));
            done?;
            if self.unrest()?.is_none() {
                return self.check_rest();
            }
            self.pass(PAUSE).await?;
        }
        Err(Violation::of(DRAINS, self.unrest()?.unwrap_or_default()))
    }

    async fn perform(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Change(product) => self.change(product)?,
            Step::Order { rejected } => self.order(ORDERED, rejected)?,
            Step::Oversized => self.order(TOO_LARGE, false)?,
            Step::Begin { instance, job } => self.start(instance, job),
            Step::Land(pick) => lock(&self.around.broker).land(pick),
            Step::Confirm(pick) => lock(&self.around.broker).confirm(pick),
            Step::Refuse(pick) => lock(&self.around.broker).refuse(pick),
            Step::LoseAnswers(partition) => lock(&self.around.broker).lose(SENDER, partition),
            Step::Lose { consumer, partition } => {
                let reader = self.consumers.get(consumer).map(|consumer| consumer.name);
                reader.into_iter().for_each(|one| lock(&self.around.broker).lose(one, partition));
            }
            Step::Deliver { consumer, partition, most } => {
                self.consumers.get(consumer).iter().for_each(|one| one.deliver(partition, most));
            }
            Step::Fail { consumer, retryable } => {
                self.consumers.get(consumer).iter().for_each(|one| one.fail_next(Some(retryable)));
            }
            Step::Rebalance(consumer) => {
                self.consumers.get_mut(consumer).into_iter().for_each(Consumer::join);
            }
            Step::Crash { instance, amid, turns } => self.crash(instance, amid, turns).await,
            Step::CrashConsumer { consumer, turns } => self.crash_consumer(consumer, turns).await,
            Step::Break { part, ways } => self.way(part).iter().for_each(|way| way.break_on(ways)),
            Step::Freeze { part, millis } => {
                let pause = Duration::from_millis(millis);
                self.way(part).iter().for_each(|way| way.stand_still(pause));
            }
            Step::RefuseMails(times) => self.refuse_mails(times),
            Step::Operate { retry } => self.operate(retry)?,
            Step::Retire => self.retire()?,
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)).await?,
        }
        self.pass(MOMENT).await
    }

    /// Lets time pass: all parts do what there is to do, in its order. Then it is checked.
    async fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        sleep(time).await;
        self.check()?;
        self.retried = None;
        Ok(())
    }

    /// All parts have their turn, as their loops would give it to them.
    async fn round(&mut self) -> Result<(), Violation> {
        for job in [Job::Renew, Job::Relay, Job::Relay] {
            self.start_everywhere(job).await?;
        }
        for consumer in &self.consumers {
            (0..PARTITIONS).for_each(|partition| consumer.deliver(partition, usize::MAX));
        }
        self.pass(TURN).await?;
        for job in [Job::Settle, Job::Settle, Job::Watch, Job::Mail] {
            self.start_everywhere(job).await?;
        }
        Ok(())
    }

    async fn start_everywhere(&mut self, job: Job) -> Result<(), Violation> {
        self.instances.iter_mut().for_each(|instance| instance.begin(job));
        self.pass(TURN).await
    }

    fn start(&mut self, instance: usize, job: Job) {
        self.instances.get_mut(instance).into_iter().for_each(|instance| instance.begin(job));
    }

    fn change(&mut self, product: usize) -> Result<(), Violation> {
        let key = format!("product {product}");
        let version = self.newest(&key).unwrap_or_default() + 1;
        self.commit(CHANGED, key, Some(version), version.to_string())
    }

    fn order(&mut self, event_type: EventType, rejected: bool) -> Result<(), Violation> {
        self.commit(event_type, format!("order {}", self.events.len()), None, rejected.to_string())
    }

    /// Commits an event, by each instance in turn.
    fn commit(
        &mut self,
        event_type: EventType,
        key: String,
        version: Option<i64>,
        payload: String,
    ) -> Result<(), Violation> {
        let place = self.events.len() % INSTANCES;
        let Some(instance) = self.instances.get(place) else { return Ok(()) };
        let is_rejected = payload == "true";
        let new = NewEvent {
            event_type,
            key: key.clone(),
            version: version.unwrap_or_default(),
            payload,
            traceparent: None,
        };
        let ids = self.database.run(|conn| instance.outbox.append(conn, vec![new]))?;
        let committed = |id| Committed { id, key, version, is_rejected };
        self.events.extend(ids.into_iter().next().map(committed));
        Ok(())
    }

    async fn crash(&mut self, place: usize, amid: Job, turns: u32) {
        self.start(place, amid);
        take_turns(turns).await;
        let fresh = self.bear(place);
        if let Some(instance) = self.instances.get_mut(place) {
            *instance = fresh;
        }
    }

    async fn crash_consumer(&mut self, place: usize, turns: u32) {
        let Some(consumer) = self.consumers.get_mut(place) else { return };
        (0..PARTITIONS).for_each(|partition| consumer.deliver(partition, 3));
        take_turns(turns).await;
        consumer.crash();
    }

    fn refuse_mails(&self, times: usize) {
        self.around.alerts.memory().iter().for_each(|mails| mails.fail_next(times));
    }

    fn operate(&mut self, retry: bool) -> Result<(), Violation> {
        let mut ids = self.events.iter().map(|event| event.id);
        let waiting = ids.find(|id| self.states.get(id).is_some_and(waits));
        let (Some(id), Some(instance)) = (waiting, self.instances.first()) else { return Ok(()) };
        let (outbox, by) = (&instance.outbox, "operator");
        self.database.run::<_, Violation>(|conn| {
            match retry {
                true => operate::retry(conn, outbox, id, 2, by, None)?,
                false => operate::resolve(conn, outbox, id, by, "it is known")?,
            };
            Ok(())
        })?;
        self.retried = retry.then_some(id);
        Ok(())
    }

    fn register_consumers(&self) -> Result<(), Violation> {
        let others = self.consumers.iter().skip(1).map(|one| (one.name.to_owned(), Role::Required));
        let others: BTreeMap<String, Role> = match self.around.flaw {
            Some(Flaw::OneAnswerIsEnough) => BTreeMap::new(),
            _ => others.collect(),
        };
        let now = self.around.clock.now();
        self.database.run::<_, Violation>(|conn| {
            consumers::sync(conn, FIRST_CONSUMER, &others, EventId::NIL, now)?;
            Ok(())
        })
    }

    fn retire(&mut self) -> Result<(), Violation> {
        let is_known = !self.is_retired && self.around.flaw != Some(Flaw::OneAnswerIsEnough);
        let Some(second) = self.consumers.get(1).filter(|_| is_known) else { return Ok(()) };
        let now = self.around.clock.now();
        self.database.run::<_, Violation>(|conn| {
            consumers::retire(conn, second.name, FIRST_CONSUMER, (now, "operator", None))?;
            Ok(())
        })?;
        self.is_retired = true;
        Ok(())
    }

    /// Nothing goes wrong from now on.
    fn heal(&self) {
        self.instances.iter().for_each(|instance| instance.way.heal());
        self.consumers.iter().for_each(Consumer::heal);
        self.refuse_mails(0);
        lock(&self.around.broker).calm();
    }

    /// A new process of the sender.
    fn bear(&mut self, place: usize) -> Instance {
        self.births += 1;
        Instance::start(&self.around, &self.database, place, self.births)
    }

    /// The way of a part's newest process to its database.
    fn way(&self, part: usize) -> Option<&Way> {
        match part.checked_sub(INSTANCES) {
            None => self.instances.get(part).map(|instance| &*instance.way),
            Some(place) => self.consumers.get(place).and_then(Consumer::way),
        }
    }
}

/// Lets others have so many turns.
async fn take_turns(turns: u32) {
    for _ in 0..turns {
        yield_now().await;
    }
}
