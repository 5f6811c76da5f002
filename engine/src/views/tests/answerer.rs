//! What keeps a view's messages from being answered is told once, after a while, and closed when it is over.

use common::schema::alert;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::alerts::{AlertKind, Condition, tests::alerts_to_nobody};
use crate::inbox::{AckRoutes, AckSender};
use crate::kafka::{AckBatch, Message, Offset, SendError};
use crate::views::answerer::{Answerer, Unsent};

const PATIENCE: Duration = Duration::from_secs(30);

/// How often what is told may change.
const AGAIN: Duration = Duration::from_secs(10);

on_every_database!(
    AnswererFixture::new =>
    what_the_broker_does_not_take_is_told_until_it_has_all,
    what_an_earlier_process_told_is_closed_by_an_answer_alone,
    what_the_broker_takes_in_no_form_is_told,
);

/// A broker that does with answers what the test says.
#[derive(Clone, Default)]
struct FakeBroker(Arc<Mutex<Doing>>);

#[derive(Default)]
struct Doing {
    /// Answers to messages of these partitions are refused.
    refuses: Vec<&'static str>,
    /// Whether it knows of no topic of answers.
    is_missing: bool,
    /// Bytes of a message at the most.
    limit: Option<usize>,
    /// The events whose answers it took.
    has: Vec<EventId>,
}

impl FakeBroker {
    fn set<T>(&self, change: impl FnOnce(&mut Doing) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Doing {
    fn take(&mut self, message: &Message) -> Result<Offset, SendError> {
        if self.is_missing || self.refuses.contains(&message.key.as_str()) {
            return Err(SendError::Broker("it may not".to_owned()));
        }
        if self.limit.is_some_and(|limit| message.payload.len() > limit) {
            return Err(SendError::Message("it is too large".to_owned()));
        }
        let batch: AckBatch = serde_json::from_slice(&message.payload).unwrap();
        self.has.extend(batch.acks.iter().map(|ack| ack.event_id));
        Ok(None)
    }
}

impl AckSender for FakeBroker {
    async fn send_all(&self, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
        self.set(|doing| messages.iter().map(|message| doing.take(message)).collect())
    }

    async fn leaders(&self, topic: &str) -> Result<BTreeSet<i32>, String> {
        match self.set(|doing| doing.is_missing) {
            true => Err(format!("the topic {topic} does not exist")),
            false => Ok(BTreeSet::from([0])),
        }
    }
}

struct AnswererFixture {
    view: ViewFixture,
    broker: FakeBroker,
    answerer: Answerer<FakeBroker>,
}

/// What an alert says, and whether it is open.
type Told = (String, String, bool);

impl AnswererFixture {
    fn new(database: TestDatabase) -> Self {
        let (view, broker) = (ViewFixture::new(database), FakeBroker::default());
        let answerer = answerer(&view, &broker);
        Self { view, broker, answerer }
    }

    /// Answers to one message of each of these partitions, and the events that they are about.
    fn answers(&self, partitions: &[i32]) -> (Vec<EventId>, Unsent) {
        let env = &self.view.copy.env;
        let answer = |partition: &i32| {
            let ack = Ack::new(env.event_id(), 1, Verdict::Success, "order-service", env.now());
            (*partition, ack)
        };
        let answers: Vec<(i32, Ack)> = partitions.iter().map(answer).collect();
        let events = answers.iter().map(|(_, ack)| ack.event_id).collect();
        (events, self.answerer.begin(answers))
    }

    /// Tries once; returns whether all of it is gone.
    async fn try_once(&self, unsent: &mut Unsent) -> bool {
        self.answerer.run_once(unsent, &CancellationToken::new()).await.is_none()
    }

    /// The alerts, oldest first.
    async fn told(&self) -> Vec<Told> {
        let all = alert::table.filter(alert::kind.eq("not_answered")).order(alert::seq);
        let said = all.select((alert::subject, alert::error, alert::closed_us.is_null()));
        let rows: Vec<(String, Option<String>, bool)> =
            self.view.run(move |conn| on!(conn, c => said.load(c))).await;
        let told = |(subject, error, is_open): (String, Option<String>, bool)| {
            (subject, error.unwrap_or_default(), is_open)
        };
        rows.into_iter().map(told).collect()
    }

    /// The only alert: its error, and whether it is open.
    async fn told_alone(&self) -> (String, bool) {
        let mut told = self.told().await;
        assert_eq!(told.len(), 1, "{told:?}");
        let (subject, error, is_open) = told.remove(0);
        let words = "order-service can't answer the messages of the topic view on the topic acks";
        assert_eq!(subject, words);
        (error, is_open)
    }
}

fn answerer(view: &ViewFixture, broker: &FakeBroker) -> Answerer<FakeBroker> {
    let (db, env) = (view.copy.db.clone(), view.copy.env.clone());
    let kind = AlertKind::NotAnswered;
    Answerer {
        env: env.clone(),
        service: "order-service".to_owned(),
        view: view.copy.topic.clone(),
        routes: AckRoutes::new(broker.clone(), "acks"),
        hindered: Condition::new(db, env, alerts_to_nobody(), kind, PATIENCE),
    }
}

async fn what_the_broker_does_not_take_is_told_until_it_has_all(fixture: AnswererFixture) {
    let (mut events, mut unsent) = fixture.answers(&[0, 1, 1]);
    fixture.broker.set(|doing| doing.refuses = vec!["0", "1"]);
    assert!(!fixture.try_once(&mut unsent).await);
    assert_eq!(fixture.told().await, [], "it may pass by itself");
    fixture.view.clock.advance(PATIENCE);
    assert!(!fixture.try_once(&mut unsent).await);
    let since = "3 answers wait, tried since 2027-01-15 08:00:00 UTC: ";
    let (error, is_open) = fixture.told_alone().await;
    let cause = "the broker did not take it: it may not; make the topic acks if it is missing";
    assert!(is_open && error.starts_with(&format!("{since}{cause}")), "{error}");

    fixture.broker.set(|doing| doing.refuses = vec!["0"]);
    fixture.view.clock.advance(AGAIN);
    assert!(!fixture.try_once(&mut unsent).await);
    let (error, is_open) = fixture.told_alone().await;
    let since = "1 answer waits, tried since 2027-01-15 08:00:00 UTC: ";
    assert!(is_open && error.starts_with(since), "{error}");

    fixture.broker.set(|doing| doing.refuses.clear());
    assert!(fixture.try_once(&mut unsent).await);
    assert!(!fixture.told_alone().await.1);
    let mut has = fixture.broker.set(|doing| doing.has.clone());
    has.sort_unstable();
    events.sort_unstable();
    assert_eq!(has, events, "each once");
}

async fn what_an_earlier_process_told_is_closed_by_an_answer_alone(mut fixture: AnswererFixture) {
    fixture.broker.set(|doing| doing.is_missing = true);
    let (_, mut unsent) = fixture.answers(&[0]);
    assert!(!fixture.try_once(&mut unsent).await);
    fixture.view.clock.advance(PATIENCE);
    assert!(!fixture.try_once(&mut unsent).await);
    let (error, is_open) = fixture.told_alone().await;
    assert!(is_open && error.contains(": the topic acks does not exist; "), "{error}");

    fixture.broker.set(|doing| doing.is_missing = false);
    fixture.answerer = answerer(&fixture.view, &fixture.broker);
    let (_, mut nothing) = fixture.answers(&[]);
    assert!(fixture.try_once(&mut nothing).await);
    assert!(fixture.told_alone().await.1, "nothing was answered");
    let (_, mut unsent) = fixture.answers(&[0]);
    assert!(fixture.try_once(&mut unsent).await);
    assert!(!fixture.told_alone().await.1);
}

async fn what_the_broker_takes_in_no_form_is_told(fixture: AnswererFixture) {
    fixture.broker.set(|doing| doing.limit = Some(10));
    let (_, mut unsent) = fixture.answers(&[0, 0]);
    assert!(fixture.try_once(&mut unsent).await, "they are left out");
    assert_eq!(fixture.told().await, []);
    fixture.view.clock.advance(PATIENCE);
    let (_, mut unsent) = fixture.answers(&[0]);
    assert!(fixture.try_once(&mut unsent).await);
    let (error, is_open) = fixture.told_alone().await;
    assert!(is_open && error.contains("it is too large"), "{error}");
    assert!(error.contains("raise max.message.bytes of the topic acks if it is below"), "{error}");

    fixture.broker.set(|doing| doing.limit = None);
    let (events, mut unsent) = fixture.answers(&[0]);
    assert!(fixture.try_once(&mut unsent).await);
    assert!(!fixture.told_alone().await.1);
    assert_eq!(fixture.broker.set(|doing| doing.has.clone()), events, "the others are left out");
}
