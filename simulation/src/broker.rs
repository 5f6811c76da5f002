//! A broker in memory: what is sent to it stays on its way until it lands, and its sender waits until it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::ids::EventId;
use engine::inbox::AckSender;
use engine::kafka::{AckBatch, Message, Offset, Record, SendError, sender_of};
use engine::outbox::{EventSender, SendResults};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::consumer::CONSUMERS;
use crate::flaw::Flaw;
use crate::lock;
use crate::violation::Violation;

/// The topic of the events.
pub(crate) const EVENTS: &str = "events";

/// The topic of the answers; each of its partitions is read by one instance.
pub(crate) const ACKS: &str = "acks";

/// Partitions of either topic.
pub(crate) const PARTITIONS: usize = 2;

/// The type of events that it does not take.
pub(crate) const OVERSIZED: &str = "simulation.oversized";

const BEFORE_ANSWERS: &str = "I1: no offset is committed before the broker has the answer";

/// Who reads: a consumer the events, and each instance of the sender one partition of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Consumer(usize),
    Instance(usize),
}

/// The broker; clones are the same one.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: Topic,
    acks: Topic,
    flights: Vec<Flight>,
    /// Whether what is sent lands and is confirmed at once.
    is_calm: bool,
    groups: BTreeMap<Who, Group>,
    /// What never gets to somebody: of which partition, and where it lies.
    lost: BTreeSet<(Who, usize, usize)>,
    /// What has been answered: by whom, and where it lies.
    answered: BTreeSet<(String, i32, i64)>,
    /// Events that were sent since somebody asked, and as which attempts.
    sent: Vec<(EventId, i32)>,
    violation: Option<Violation>,
    flaw: Option<Flaw>,
}

type Topic = [Vec<Landed>; PARTITIONS];

/// A message that was written down.
struct Landed {
    record: Record,
    from: String,
}

/// Messages on their way.
struct Flight {
    from: String,
    messages: Vec<Message>,
    /// What was said of them, once they are written down.
    landed: Option<SendResults>,
    /// Whoever waits; none where it was told before.
    reply: Option<oneshot::Sender<SendResults>>,
}

/// How far a partition is read.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    next: usize,
    committed: usize,
}

/// How far somebody reads.
#[derive(Debug, Default)]
struct Group {
    /// Which of its processes has the partitions.
    assignment: u64,
    readers: [Reader; PARTITIONS],
}

/// An event's message, as it was written down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) id: EventId,
    pub(crate) attempt: i32,
    /// Who sent it.
    pub(crate) from: String,
}

impl Broker {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        Self(Arc::new(Mutex::new(State { flaw, ..State::default() })))
    }

    async fn send(&self, from: &str, messages: &[Message]) -> SendResults {
        let said = lock(&self.0).take(from, messages);
        said.await.unwrap_or_else(|_gone| refusals(messages))
    }

    /// Writes a flight down.
    pub(crate) fn land(&self, pick: usize) {
        let mut state = lock(&self.0);
        let waiting: Vec<usize> = (0..state.flights.len())
            .filter(|place| state.flights.get(*place).is_some_and(|one| one.landed.is_none()))
            .collect();
        let Some(place) = one_of(&waiting, pick).copied() else { return };
        let mut flight = state.flights.remove(place);
        flight.landed = Some(state.write(&flight.from, &flight.messages));
        state.flights.insert(place, flight);
    }

    /// Tells a sender that its messages are written down.
    pub(crate) fn confirm(&self, pick: usize) {
        let mut state = lock(&self.0);
        if let Some(flight) = state.end_flight(pick) {
            state.confirm(flight);
        }
    }

    /// Tells a sender nothing of its messages, until it gives up; returns whether they were answers.
    pub(crate) fn refuse(&self, pick: usize) -> bool {
        let Some(mut flight) = lock(&self.0).end_flight(pick) else { return false };
        let are_answers = flight.messages.iter().any(|message| message.topic == ACKS);
        flight.tell(refusals(&flight.messages));
        are_answers
    }

    /// From now on all goes well, and at once.
    pub(crate) fn calm(&self) {
        let mut state = lock(&self.0);
        state.is_calm = true;
        let flights = std::mem::take(&mut state.flights);
        flights.into_iter().for_each(|flight| state.confirm(flight));
    }

    /// Writes an event's message down once more.
    pub(crate) fn repeat(&self, pick: usize) {
        let mut state = lock(&self.0);
        let all: Vec<&Landed> = state.events.iter().flatten().collect();
        let Some(Landed { record, from }) = one_of(&all, pick).copied() else { return };
        let (record, from) = (record.clone(), from.clone());
        push(&mut state.events, record, from);
    }

    /// Another process of `who` has the partitions, and reads them on from what is committed.
    pub(crate) fn assign(&self, who: Who) {
        let mut state = lock(&self.0);
        let group = state.groups.entry(who).or_default();
        group.readers.iter_mut().for_each(|reader| reader.next = reader.committed);
        group.assignment += 1;
    }

    /// What comes next for `who`.
    pub(crate) fn take(&self, who: Who, partition: usize, most: usize) -> Vec<Record> {
        let mut state = lock(&self.0);
        let coming = state.coming(who, partition, most);
        let Some((log, reader, assignment)) = state.reading(who, partition) else {
            return Vec::new();
        };
        reader.next = coming.last().map_or(reader.next, |last| last + 1);
        let records = coming.iter().filter_map(|place| log.get(*place)).map(|one| &one.record);
        let batch: Vec<Record> =
            records.map(|record| Record { assignment, ..record.clone() }).collect();
        if state.flaw == Some(Flaw::OffsetsFirst) && matches!(who, Who::Consumer(_)) {
            state.commit(who, &batch);
        }
        batch
    }

    /// `who` says that `batch` is done.
    pub(crate) fn commit(&self, who: Who, batch: &[Record]) {
        lock(&self.0).commit(who, batch);
    }

    /// `who` never gets what comes next; false if nothing does.
    pub(crate) fn skip(&self, who: Who, partition: usize) -> bool {
        let mut state = lock(&self.0);
        let coming = state.coming(who, partition, 1);
        state.lost.extend(coming.iter().map(|place| (who, partition, *place)));
        !coming.is_empty()
    }

    /// The answers that come next come the other way round; false if there are too few.
    pub(crate) fn swap_answers(&self, partition: usize) -> bool {
        let mut state = lock(&self.0);
        let coming = state.coming(Who::Instance(partition), partition, 2);
        let ([one, other], Some(log)) = (&coming[..], state.acks.get_mut(partition)) else {
            return false;
        };
        let Ok([one, other]) = log.get_disjoint_mut([*one, *other]) else { return false };
        std::mem::swap(&mut one.record.payload, &mut other.record.payload);
        true
    }

    /// What lies there in the topic of the events.
    pub(crate) fn written(&self, partition: i32, offset: i64) -> Option<Written> {
        let state = lock(&self.0);
        let log = state.events.get(usize::try_from(partition).ok()?)?;
        let Landed { record, from } = log.get(usize::try_from(offset).ok()?)?;
        let sender = sender_of(record)?;
        Some(Written { id: sender.id, attempt: sender.attempt, from: from.clone() })
    }

    /// Events that were sent since this was asked last.
    pub(crate) fn sent(&self) -> Vec<(EventId, i32)> {
        std::mem::take(&mut lock(&self.0).sent)
    }

    /// What was found to be wrong here.
    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.0).violation.clone()
    }

    /// Whether nothing is on its way, and all was read to its end.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = lock(&self.0);
        let is_read = |(who, group): (&Who, &Group)| {
            let topic = if let Who::Consumer(_) = who { &state.events } else { &state.acks };
            let logs = topic.iter().zip(&group.readers).enumerate();
            let mut own = logs.filter(|(partition, _)| who.reads(*partition));
            own.all(|(partition, (log, reader))| {
                let is_lost = |place| state.lost.contains(&(*who, partition, place));
                (reader.committed..log.len()).all(is_lost)
            })
        };
        state.flights.is_empty() && state.groups.iter().all(is_read)
    }

    /// How much lies in each partition, of events and of answers.
    pub(crate) fn sizes(&self) -> [usize; 2 * PARTITIONS] {
        let state = lock(&self.0);
        let mut sizes = state.events.iter().chain(&state.acks).map(Vec::len);
        std::array::from_fn(|_| sizes.next().unwrap_or_default())
    }
}

impl State {
    /// Takes messages on their way, and returns where their sender is told what became of them.
    fn take(&mut self, from: &str, messages: &[Message]) -> oneshot::Receiver<SendResults> {
        let (reply, said) = oneshot::channel();
        let mut flight = Flight {
            from: from.to_owned(),
            messages: messages.to_vec(),
            landed: None,
            reply: Some(reply),
        };
        if self.is_calm {
            self.confirm(flight);
        } else {
            let are_events = messages.iter().all(|message| message.topic == EVENTS);
            if are_events && self.flaw == Some(Flaw::SentBeforeDelivery) {
                let promised = self.promise(&flight.messages);
                flight.tell(promised);
            }
            self.flights.push(flight);
        }
        said
    }

    /// Where events would lie, if each were the next one.
    fn promise(&self, events: &[Message]) -> SendResults {
        let next = |message: &Message| {
            let log = self.events.get(usize::try_from(message.partition?).ok()?)?;
            i64::try_from(log.len()).ok()
        };
        events.iter().map(|message| Ok(next(message))).collect()
    }

    fn end_flight(&mut self, pick: usize) -> Option<Flight> {
        let place = pick.checked_rem(self.flights.len())?;
        Some(self.flights.remove(place))
    }

    fn confirm(&mut self, mut flight: Flight) {
        let landed = flight.landed.take();
        let said = landed.unwrap_or_else(|| self.write(&flight.from, &flight.messages));
        flight.tell(said);
    }

    /// Writes messages down.
    fn write(&mut self, from: &str, messages: &[Message]) -> SendResults {
        messages.iter().map(|message| self.write_one(from, message)).collect()
    }

    fn write_one(&mut self, from: &str, message: &Message) -> Result<Offset, SendError> {
        let is_oversized =
            |(name, value): &(&str, String)| *name == "ce_type" && value == OVERSIZED;
        if message.headers.iter().any(is_oversized) {
            return Err(SendError::Message("it is too large".to_owned()));
        }
        let record = record(message);
        if message.topic == ACKS {
            self.answered.extend(answered_by(&record));
            return Ok(push(&mut self.acks, record, from.to_owned()));
        }
        self.sent.extend(sender_of(&record).map(|sender| (sender.id, sender.attempt)));
        Ok(push(&mut self.events, record, from.to_owned()))
    }

    /// Where that lies which comes next for `who`.
    fn coming(&mut self, who: Who, partition: usize, most: usize) -> Vec<usize> {
        let Some((log, reader, _)) = self.reading(who, partition) else { return Vec::new() };
        let places = reader.next..log.len();
        let comes = |place: &usize| !self.lost.contains(&(who, partition, *place));
        places.filter(comes).take(most).collect()
    }

    /// The partition, how far `who` reads it, and as which of its processes.
    fn reading(
        &mut self,
        who: Who,
        partition: usize,
    ) -> Option<(&mut Vec<Landed>, &mut Reader, u64)> {
        let topic = if let Who::Consumer(_) = who { &mut self.events } else { &mut self.acks };
        let group = self.groups.entry(who).or_default();
        Some((topic.get_mut(partition)?, group.readers.get_mut(partition)?, group.assignment))
    }

    /// What is not of the present assignment is another process's.
    fn commit(&mut self, who: Who, batch: &[Record]) {
        for record in batch {
            let partition = usize::try_from(record.partition).unwrap_or_default();
            if let Some((_, reader, assignment)) = self.reading(who, partition)
                && assignment == record.assignment
            {
                // The last one stands, as with the real client.
                reader.committed = usize::try_from(record.offset).map_or(0, |offset| offset + 1);
                self.check_answered(who, record);
            }
        }
    }

    fn check_answered(&mut self, who: Who, record: &Record) {
        let Who::Consumer(place) = who else { return };
        let consumer = CONSUMERS.get(place).copied().unwrap_or_default();
        let place = (consumer.to_owned(), record.partition, record.offset);
        if !self.answered.contains(&place) {
            self.violation = Some(Violation::of(BEFORE_ANSWERS, format!("committed: {place:?}")));
        }
    }
}

impl Who {
    /// Whether it reads this partition of its topic.
    fn reads(self, partition: usize) -> bool {
        match self {
            Self::Consumer(_) => true,
            Self::Instance(place) => place == partition,
        }
    }
}

impl Flight {
    fn tell(&mut self, said: SendResults) {
        if let Some(reply) = self.reply.take() {
            // Whoever waited may be dead by now.
            _ = reply.send(said);
        }
    }
}

/// Brings messages to the broker, as long as its process lives.
pub(crate) struct Courier {
    pub(crate) broker: Broker,
    pub(crate) from: String,
    pub(crate) is_dead: Arc<AtomicBool>,
}

impl Courier {
    async fn bring(&self, messages: &[Message]) -> SendResults {
        if self.is_dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.broker.send(&self.from, messages).await
    }
}

impl EventSender for Courier {
    fn send_all<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, SendResults> {
        Box::pin(self.bring(messages))
    }

    fn partitions<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<i32, String>> {
        Box::pin(async { i32::try_from(PARTITIONS).map_err(|error| error.to_string()) })
    }
}

impl AckSender for Courier {
    async fn send_all(&self, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
        self.bring(messages).await
    }

    async fn leaders(&self, _topic: &str) -> Result<BTreeSet<i32>, String> {
        Ok((0..).take(PARTITIONS).collect())
    }
}

fn refusals(messages: &[Message]) -> SendResults {
    messages.iter().map(|_| Err(SendError::Broker("it timed out".to_owned()))).collect()
}

fn record(message: &Message) -> Record {
    let header = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone().into_bytes());
    Record {
        topic: message.topic.clone(),
        partition: message.partition.unwrap_or_default(),
        key: Some(message.key.clone().into_bytes()),
        headers: message.headers.iter().map(header).collect(),
        payload: Some(message.payload.clone()),
        ..Record::default()
    }
}

/// Which messages are answered in `record`, and by whom.
fn answered_by(record: &Record) -> Vec<(String, i32, i64)> {
    let payload = record.payload.as_deref().unwrap_or_default();
    let batch: Option<AckBatch> = serde_json::from_slice(payload).ok();
    let acks = batch.map(|batch| batch.acks).unwrap_or_default();
    acks.into_iter().filter_map(|ack| Some((ack.consumer, ack.partition?, ack.offset?))).collect()
}

/// Appends a message to its partition; returns where it lies.
fn push(topic: &mut Topic, record: Record, from: String) -> Offset {
    let log = topic.get_mut(usize::try_from(record.partition).ok()?)?;
    let offset = i64::try_from(log.len()).ok()?;
    log.push(Landed { record: Record { offset, ..record }, from });
    Some(offset)
}

fn one_of<T>(all: &[T], pick: usize) -> Option<&T> {
    all.get(pick.checked_rem(all.len())?)
}
