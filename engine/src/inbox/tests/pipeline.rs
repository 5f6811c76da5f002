//! One batch is answered while the next is applied; nothing is said to be done before its answers are confirmed.

use std::collections::BTreeSet;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::kafka::{AckBatch, BatchLimits, Message, Offset, SendError};

const PATIENCE: Duration = Duration::from_secs(30);

on_every_database!(PipelineFixture::new =>
    the_next_batch_is_applied_while_one_is_answered,
    answers_that_fail_come_again_before_anything_is_committed,
    a_bad_message_behind_a_batch_that_is_answered_stops_nobody,
    what_is_given_again_is_answered_again_and_applied_once,
    what_is_taken_when_it_stops_is_finished,
    what_can_not_be_answered_when_it_stops_is_left_with_all_behind_it,
    a_flaw_in_answering_ends_the_loop,
);

/// What can be seen of a consumer from outside, in this order.
#[derive(Debug, PartialEq)]
enum Seen {
    /// A batch, with how many answers and unreadable messages.
    Applied(usize, usize),
    /// Answers to these events were given to the broker.
    Sent(Vec<EventId>),
    /// The messages at these offsets are done.
    Committed(Vec<i64>),
}

/// What the broker says of a message.
type Said = Result<Offset, SendError>;

struct FakeSource {
    batches: Mutex<mpsc::UnboundedReceiver<Vec<Record>>>,
    seen: mpsc::UnboundedSender<Seen>,
}

impl EventSource for FakeSource {
    async fn next_batch(&self, _limits: BatchLimits) -> Vec<Record> {
        self.batches.lock().await.recv().await.expect("the test goes on until it stops")
    }

    async fn more(&self, _batch: &mut Vec<Record>, _limits: BatchLimits) {}

    async fn keep_alive(&self) {}

    async fn look(&self, _inbox: &Inbox) {}

    fn commit(&self, batch: &[Record]) {
        let offsets = batch.iter().map(|record| record.offset).collect();
        self.seen.send(Seen::Committed(offsets)).unwrap();
    }
}

/// Says of each message what the test says of all that are sent together.
struct FakeSender {
    verdicts: Mutex<mpsc::UnboundedReceiver<Said>>,
    seen: mpsc::UnboundedSender<Seen>,
}

impl AckSender for FakeSender {
    async fn send_all(&self, messages: &[Message]) -> Vec<Said> {
        let mut verdicts = self.verdicts.try_lock().expect("one batch is answered at a time");
        let answered = messages.iter().flat_map(|message| {
            let batch: AckBatch = serde_json::from_slice(&message.payload).unwrap();
            batch.acks.into_iter().map(|ack| ack.event_id)
        });
        self.seen.send(Seen::Sent(answered.collect())).unwrap();
        let verdict = verdicts.recv().await.expect("the test says what becomes of it");
        messages.iter().map(|_| verdict.clone()).collect()
    }

    async fn leaders(&self, _topic: &str) -> Result<BTreeSet<i32>, String> {
        Ok(BTreeSet::from([0]))
    }
}

/// A consumer at work, with what it is given and what is seen of it.
struct PipelineFixture {
    inbox: InboxFixture,
    batches: mpsc::UnboundedSender<Vec<Record>>,
    verdicts: mpsc::UnboundedSender<Said>,
    seen: mpsc::UnboundedReceiver<Seen>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl PipelineFixture {
    fn new(database: TestDatabase) -> Self {
        let fixture = InboxFixture::new(database);
        let (batches, given) = mpsc::unbounded_channel();
        let (verdicts, said) = mpsc::unbounded_channel();
        let (tell, seen) = mpsc::unbounded_channel();
        let sender = FakeSender { verdicts: Mutex::new(said), seen: tell.clone() };
        let consumer = InboxConsumer {
            inbox: fixture.inbox.clone(),
            source: FakeSource { batches: Mutex::new(given), seen: tell.clone() },
            routes: AckRoutes::new(sender, "acks"),
            batch: BatchLimits::new(10, Duration::ZERO),
            hindered: fixture.condition(AlertKind::NotApplied, PATIENCE),
            refusals: Refusals::new(
                &fixture.env,
                "order-service",
                "inventory",
                fixture.condition(AlertKind::NotTrusted, PATIENCE),
            ),
            is_stuck: AtomicBool::default(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            let applied = |applied: &Applied| {
                tell.send(Seen::Applied(applied.acks.len(), applied.unreadable)).unwrap();
            };
            Arc::new(consumer).run(&stopped, applied).await;
        });
        Self { inbox: fixture, batches, verdicts, seen, stop, running }
    }

    /// Gives a batch of one event of the key `A`, at `offset`.
    fn give(&self, offset: i64) -> EventId {
        let event = self.inbox.event("test.changed", "A");
        self.give_all(vec![Record { offset, ..record(&event) }]);
        event.id
    }

    fn give_all(&self, batch: Vec<Record>) {
        self.batches.send(batch).unwrap();
    }

    /// The broker has what was sent.
    fn confirm(&self) {
        self.verdicts.send(Ok(None)).unwrap();
    }

    /// The broker does not take what was sent.
    fn refuse(&self) {
        self.verdicts.send(Err(SendError::Broker("it is away".to_owned()))).unwrap();
    }

    /// These are the next things that happen.
    async fn see(&mut self, expected: impl IntoIterator<Item = Seen>) {
        for expected in expected {
            let next = timeout(Duration::from_secs(60), self.seen.recv()).await;
            assert_eq!(next.expect("something happens"), Some(expected));
        }
    }

    /// It ends, and nothing more happens.
    async fn end(mut self) -> InboxFixture {
        self.stop.cancel();
        timeout(Duration::from_secs(60), self.running).await.expect("it stops").unwrap();
        assert_eq!(self.seen.recv().await, None);
        self.inbox
    }
}

const ONE: Seen = Seen::Applied(1, 0);

async fn the_next_batch_is_applied_while_one_is_answered(mut fixture: PipelineFixture) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    let second = fixture.give(2);
    fixture.see([ONE]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![1]), Seen::Sent(vec![second])]).await;
    fixture.confirm();
    // Nothing has to come for that.
    fixture.see([Seen::Committed(vec![2])]).await;
    assert_eq!(fixture.end().await.effects("A").await, 2);
}

async fn answers_that_fail_come_again_before_anything_is_committed(mut fixture: PipelineFixture) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    let second = fixture.give(2);
    fixture.see([ONE]).await;
    for _ in 0..2 {
        fixture.refuse();
        fixture.see([Seen::Sent(vec![first])]).await;
    }
    fixture.confirm();
    fixture.see([Seen::Committed(vec![1]), Seen::Sent(vec![second])]).await;
    fixture.refuse();
    fixture.see([Seen::Sent(vec![second])]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![2])]).await;
    fixture.end().await;
}

async fn a_bad_message_behind_a_batch_that_is_answered_stops_nobody(mut fixture: PipelineFixture) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    let [bad, good] = ["panics", "B"].map(|key| fixture.inbox.event("test.changed", key));
    let noise = Record { headers: Vec::new(), payload: Some(vec![0, 255]), ..record(&good) };
    let at = |offset, record: Record| Record { offset, ..record };
    fixture.give_all(vec![at(2, noise), at(3, record(&bad)), at(4, record(&good))]);
    fixture.see([Seen::Applied(2, 1)]).await;
    fixture.confirm();
    let answered = Seen::Sent(vec![bad.id, good.id]);
    fixture.see([Seen::Committed(vec![1]), answered]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![2, 3, 4])]).await;
    let inbox = fixture.end().await;
    assert_eq!((inbox.effects("B").await, inbox.dead_letters().await), (1, 1));
}

/// As after a partition was taken away, and came back before the answers were confirmed.
async fn what_is_given_again_is_answered_again_and_applied_once(mut fixture: PipelineFixture) {
    let event = fixture.inbox.event("test.changed", "A");
    let batch = vec![Record { offset: 1, ..record(&event) }];
    fixture.give_all(batch.clone());
    fixture.see([ONE, Seen::Sent(vec![event.id])]).await;
    fixture.give_all(batch);
    fixture.see([ONE]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![1]), Seen::Sent(vec![event.id])]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![1])]).await;
    assert_eq!(fixture.end().await.effects("A").await, 1);
}

async fn what_is_taken_when_it_stops_is_finished(mut fixture: PipelineFixture) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    let second = fixture.give(2);
    fixture.see([ONE]).await;
    fixture.stop.cancel();
    fixture.confirm();
    fixture.see([Seen::Committed(vec![1]), Seen::Sent(vec![second])]).await;
    fixture.confirm();
    fixture.see([Seen::Committed(vec![2])]).await;
    fixture.end().await;
}

async fn what_can_not_be_answered_when_it_stops_is_left_with_all_behind_it(
    mut fixture: PipelineFixture,
) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    fixture.give(2);
    fixture.see([ONE]).await;
    fixture.stop.cancel();
    fixture.refuse();
    // The second is applied, and comes again as well: to answer it would be to pass the first by.
    assert_eq!(fixture.end().await.effects("A").await, 2);
}

/// Though nothing more comes: readiness tells of a loop that has ended, and of no other.
async fn a_flaw_in_answering_ends_the_loop(mut fixture: PipelineFixture) {
    let first = fixture.give(1);
    fixture.see([ONE, Seen::Sent(vec![first])]).await;
    let PipelineFixture { verdicts, running, mut seen, batches: _batches, .. } = fixture;
    // The sender panics without a verdict.
    drop(verdicts);
    timeout(Duration::from_secs(60), running).await.expect("it ends").unwrap();
    assert_eq!(seen.recv().await, None, "nothing is committed");
}
