//! All parts of a run, and what each step does to them.

use std::collections::BTreeMap;
use std::time::Duration;

use common::clock::Clock;
use common::config::{AlertSettings, MailSettings, MailTls, MailTransport, WebhookSettings};
use common::db::MemoryDatabase;
use common::event::{EventType, NewEvent, Status};
use common::ids::EventId;
use engine::alerts::Alerts;
use engine::consumers::{self, RegistryError, Role};
use engine::outbox::operate::{self, OperateError};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::broker::{Broker, PARTITIONS, Who};
use crate::checks::State;
use crate::consumer::{CHANGED, CONSUMERS, Consumer, ORDERED, TOO_LARGE};
use crate::flaw::Flaw;
use crate::instance::{FIRST_CONSUMER, Instance, SENDER, Surroundings};
use crate::script::{INSTANCES, Job, Script, Step};
use crate::stage::Stage;
use crate::violation::Violation;
use crate::way::Way;

/// How long a step takes. It ends when no part has anything left to do in this moment.
const MOMENT: Duration = Duration::from_millis(1);

/// How long all parts get in a round at the end: longer than a relay waits for the broker.
const TURN: Duration = Duration::from_millis(10);

/// Rounds at the end, and how long after one another: short ones at first, as most need no more.
const ROUNDS: usize = 60;
const SHORT_ROUNDS: usize = 12;
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);

/// Messages that a consumer gets at once at the end.
const ALL: usize = 1_000;

const DRAINS: &str = "I6: once nothing goes wrong any more, all comes to rest";

/// All parts of a run.
pub(crate) struct World {
    pub(crate) database: MemoryDatabase,
    pub(crate) broker: Broker,
    pub(crate) instances: Vec<Instance>,
    pub(crate) consumers: Vec<Consumer>,
    /// All events that were committed, in this order.
    pub(crate) events: Vec<Committed>,
    /// How each was when it was looked at last.
    pub(crate) states: BTreeMap<EventId, State>,
    /// The versions of each consumer's copy then.
    pub(crate) copies: Vec<BTreeMap<String, i64>>,
    /// The event that an operator retried in this step.
    pub(crate) retried: Option<EventId>,
    /// Whether the second consumer is asked no more.
    pub(crate) is_retired: bool,
    /// Whether something happened that may cost an event an attempt.
    pub(crate) is_excused: bool,
    /// Whether a database was changed by hand since it was looked at.
    pub(crate) is_changed: bool,
    around: Surroundings,
    /// The newest version of each product.
    versions: BTreeMap<usize, i64>,
    births: u64,
}

/// An event that was committed.
#[derive(Debug, Clone)]
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
        let around = Surroundings {
            seed: script.seed,
            flaw,
            clock: stage.clock.clone(),
            broker: Broker::new(flaw),
            alerts: alerts()?,
        };
        let broken = flaw.map_or("", Flaw::of_the_sender);
        stage.sender.run(|conn| conn.batch_execute(broken))?;
        let places = stage.consumers.iter().enumerate().take(script.consumers);
        let consumers: Result<Vec<Consumer>, Violation> =
            places.map(|(place, database)| Consumer::start(&around, place, database)).collect();
        let mut world = Self {
            database: stage.sender.clone(),
            broker: around.broker.clone(),
            instances: Vec::new(),
            consumers: consumers?,
            events: Vec::new(),
            states: BTreeMap::new(),
            copies: Vec::new(),
            retried: None,
            is_retired: false,
            is_excused: false,
            is_changed: false,
            around,
            versions: BTreeMap::new(),
            births: 0,
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
            self.pass(if round < SHORT_ROUNDS { SHORT } else { LONG }).await?;
        }
        Err(Violation::of(DRAINS, self.unrest()?.unwrap_or_default()))
    }

    async fn perform(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Change(product) => self.change(product)?,
            Step::Order { rejected } => self.order(ORDERED, rejected)?,
            Step::Oversized => {
                self.order(TOO_LARGE, false)?;
                self.is_excused = true;
            }
            Step::Begin { instance, job } => self.start(instance, job),
            Step::Land(pick) => self.broker.land(pick),
            Step::Confirm(pick) => self.broker.confirm(pick),
            Step::Refuse(pick) => self.is_excused |= self.broker.refuse(pick),
            Step::Deliver { consumer, partition, most } => {
                self.deliver(consumer, partition, most);
            }
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)).await?,
            Step::Repeat(pick) => self.broker.repeat(pick),
            Step::Lose { consumer, partition } => {
                let who = self.consumers.get(consumer).map(|consumer| consumer.who);
                self.is_excused |= who.is_some_and(|who| self.broker.skip(who, partition));
            }
            Step::LoseAnswers(partition) => {
                self.is_excused |= self.broker.skip(Who::Instance(partition), partition);
            }
            Step::SwapAnswers(partition) => {
                self.is_excused |= self.broker.swap_answers(partition);
            }
            Step::Fail { consumer, retryable } => {
                self.consumers.get(consumer).iter().for_each(|one| one.fail_next(retryable));
                self.is_excused = true;
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
            Step::RefuseMails(times) => {
                self.around.alerts.memory().iter().for_each(|mails| mails.fail_next(times));
            }
            Step::Operate { retry } => self.operate(retry)?,
            Step::Retire => self.retire()?,
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
            self.start_everywhere(job);
            self.pass(TURN).await?;
        }
        for consumer in 0..self.consumers.len() {
            (0..PARTITIONS).for_each(|partition| self.deliver(consumer, partition, ALL));
        }
        self.pass(TURN).await?;
        for job in [Job::Settle, Job::Settle, Job::Watch] {
            self.start_everywhere(job);
            self.pass(TURN).await?;
        }
        self.start(0, Job::Mail);
        self.pass(TURN).await
    }

    fn start_everywhere(&mut self, job: Job) {
        self.instances.iter_mut().for_each(|instance| instance.begin(job));
    }

    fn start(&mut self, instance: usize, job: Job) {
        self.instances.get_mut(instance).into_iter().for_each(|instance| instance.begin(job));
    }

    fn deliver(&self, consumer: usize, partition: usize, most: usize) {
        self.consumers.get(consumer).iter().for_each(|one| one.deliver(partition, most));
    }

    fn change(&mut self, product: usize) -> Result<(), Violation> {
        let version = self.versions.get(&product).copied().unwrap_or_default() + 1;
        self.versions.insert(product, version);
        let key = format!("product {product}");
        let payload = format!("{{\"version\":{version}}}");
        let event = Committed { id: EventId::NIL, key, version: Some(version), is_rejected: false };
        self.commit(CHANGED, payload, event)
    }

    fn order(&mut self, event_type: EventType, rejected: bool) -> Result<(), Violation> {
        let key = format!("order {}", self.events.len());
        let event = Committed { id: EventId::NIL, key, version: None, is_rejected: rejected };
        self.commit(event_type, rejected.to_string(), event)
    }

    /// Commits an event, by each instance in turn.
    fn commit(
        &mut self,
        event_type: EventType,
        payload: String,
        event: Committed,
    ) -> Result<(), Violation> {
        let new = NewEvent {
            event_type,
            key: event.key.clone(),
            version: event.version.unwrap_or_default(),
            payload,
            traceparent: None,
        };
        let place = self.events.len() % INSTANCES;
        let Some(instance) = self.instances.get(place) else { return Ok(()) };
        let ids = self.database.run(|conn| instance.outbox.append(conn, vec![new]))?;
        let committed = |id| Committed { id, ..event };
        self.events.extend(ids.into_iter().next().map(committed));
        self.is_changed = true;
        Ok(())
    }

    async fn crash(&mut self, place: usize, amid: Job, turns: u32) {
        self.start(place, amid);
        take_turns(turns).await;
        let fresh = self.bear(place);
        if let Some(instance) = self.instances.get_mut(place) {
            instance.kill();
            *instance = fresh;
        }
        self.is_changed = true;
    }

    async fn crash_consumer(&mut self, place: usize, turns: u32) {
        (0..PARTITIONS).for_each(|partition| self.deliver(place, partition, 3));
        take_turns(turns).await;
        self.consumers.get_mut(place).into_iter().for_each(Consumer::crash);
    }

    fn operate(&mut self, retry: bool) -> Result<(), Violation> {
        let waits = |state: &State| state.status == Status::Exhausted && !state.is_resolved;
        let waiting = self.events.iter().map(|event| event.id);
        let mut waiting = waiting.filter(|id| self.states.get(id).is_some_and(waits));
        let (Some(id), Some(instance)) = (waiting.next(), self.instances.first()) else {
            return Ok(());
        };
        let outbox = &instance.outbox;
        let done = self.database.run::<_, OperateError>(|conn| {
            match retry {
                true => operate::retry(conn, outbox, id, 2, "operator", None)?,
                false => operate::resolve(conn, outbox, id, "operator", "it is known")?,
            };
            Ok(())
        });
        done.map_err(Violation::of_itself)?;
        self.retried = retry.then_some(id);
        self.is_changed = true;
        Ok(())
    }

    fn register_consumers(&self) -> Result<(), Violation> {
        let others = CONSUMERS.iter().take(self.consumers.len()).skip(1);
        let others: BTreeMap<String, Role> = match self.around.flaw {
            Some(Flaw::OneAnswerIsEnough) => BTreeMap::new(),
            _ => others.map(|name| ((*name).to_owned(), Role::Required)).collect(),
        };
        let now = self.around.clock.now();
        let registered = self.database.run::<_, RegistryError>(|conn| {
            consumers::sync(conn, FIRST_CONSUMER, &others, EventId::NIL, now)
        });
        registered.map(drop).map_err(Violation::of_itself)
    }

    fn retire(&mut self) -> Result<(), Violation> {
        let second = self.consumers.get(1).map(|consumer| consumer.name);
        let Some(name) = second.filter(|_| !self.is_retired && self.around.flaw.is_none()) else {
            return Ok(());
        };
        let now = self.around.clock.now();
        let retired = self.database.run::<_, RegistryError>(|conn| {
            consumers::retire(conn, name, FIRST_CONSUMER, (now, "operator", None))
        });
        retired.map_err(Violation::of_itself)?;
        (self.is_retired, self.is_changed) = (true, true);
        Ok(())
    }

    /// Nothing goes wrong from now on.
    fn heal(&self) {
        self.instances.iter().for_each(|instance| instance.way.heal());
        self.consumers.iter().for_each(Consumer::heal);
        self.around.alerts.memory().iter().for_each(|mails| mails.fail_next(0));
        self.broker.calm();
    }

    /// A new process of the sender.
    fn bear(&mut self, place: usize) -> Instance {
        self.births += 1;
        Instance::start(&self.around, &self.database, place, self.births)
    }

    /// The way of a part to its database: of the instances, then of the consumers.
    fn way(&self, part: usize) -> Option<&Way> {
        match part.checked_sub(INSTANCES) {
            None => self.instances.get(part).map(|instance| &*instance.way),
            Some(place) => self.consumers.get(place).map(|consumer| &*consumer.way),
        }
    }
}

/// Lets others have so many turns.
async fn take_turns(turns: u32) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// Alerts that go into mails, which leave into memory.
fn alerts() -> Result<Alerts, Violation> {
    let alerts = AlertSettings {
        recipients: vec!["operator@simulation.test".to_owned()],
        digest_delay: Duration::from_secs(1),
        digest_size: 50,
        tell_when_over: false,
        cron: String::new(),
        retention: Duration::MAX,
    };
    let mail = MailSettings {
        transport: MailTransport::Memory,
        from: "stockloop@simulation.test".to_owned(),
        host: String::new(),
        port: 25,
        tls: MailTls::None,
        username: String::new(),
        password: String::new().into(),
        timeout: Duration::from_secs(5),
        retry_base: Duration::from_secs(1),
        retry_max: Duration::from_secs(5),
        directory: String::new(),
    };
    let webhook = WebhookSettings {
        url: String::new(),
        secret: String::new().into(),
        timeout: Duration::from_secs(5),
        retry_base: Duration::from_secs(1),
        retry_max: Duration::from_secs(5),
    };
    let made = Alerts::new(SENDER, "http://simulation.test", &alerts, &mail, &webhook);
    made.map_err(Violation::of_itself)
}
