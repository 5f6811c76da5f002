//! A broker in memory: what is sent to it stays on its way until it lands, and its sender waits until it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use common::ids::EventId;
use engine::inbox::AckSender;
use engine::kafka::{Ack, AckBatch, Message, Offset, Record, SendError, sender_of};
use engine::outbox::{EventSender, SendResults};
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::flaw::Flaw;
use crate::lock;
use crate::surroundings::SENDER;
use crate::violation::Violation;

/// The topic of the events.
pub(crate) const EVENTS: &str = "events";

/// The topic of the answers; each of its partitions is read by one instance.
pub(crate) const ACKS: &str = "acks";

/// Partitions of either topic.
pub(crate) const PARTITIONS: i32 = 2;

/// The type of events that it does not take.
pub(crate) const OVERSIZED: &str = "simulation.oversized";

/// The header that says which process sent a message.
pub(crate) const FROM: &str = "from";

const BEFORE_ANSWERS: &str = "I1: no offset is committed before the broker has the answer";

/// The broker as all parts of a run have it.
pub(crate) type SharedBroker = Arc<Mutex<Broker>>;

/// What was sent, and how far it was read.
#[derive(Default)]
pub(crate) struct Broker {
    /// What was found to be wrong here.
    pub(crate) violation: Option<Violation>,
    /// Events that may lose an attempt: they were refused or failed, or they or an answer to them were lost.
    pub(crate) blamed: BTreeSet<EventId>,
    /// Whether all may: answers that are refused go another way, and may be behind later ones then.
    pub(crate) are_all_blamed: bool,
    flaw: Option<Flaw>,
    logs: BTreeMap<(&'static str, i32), Vec<Record>>,
    flights: Vec<Flight>,
    /// Whether what is sent lands and is confirmed at once.
    is_calm: bool,
    /// By who reads, and the partition.
    progress: BTreeMap<(&'static str, i32), Progress>,
    /// What never gets to somebody: of which partition, and where it lies.
    lost: BTreeSet<(&'static str, i32, i64)>,
    /// What has been answered: by whom, and where it lies.
    answered: BTreeSet<(String, i32, i64)>,
}

/// Messages of one topic on their way.
struct Flight {
    records: Vec<Record>,
    /// What was said of them, once they are written down.
    landed: Option<SendResults>,
    /// Whoever waits; none where it was told before.
    reply: Option<oneshot::Sender<SendResults>>,
}

/// How far somebody reads a partition.
#[derive(Default)]
struct Progress {
    next: i64,
    committed: i64,
    /// Which of its processes has the partition.
    assignment: u64,
}

impl Broker {
    pub(crate) fn new(flaw: Option<Flaw>) -> SharedBroker {
        Arc::new(Mutex::new(Self { flaw, ..Self::default() }))
    }

    /// Writes a flight down; its sender still waits.
    pub(crate) fn land(&mut self, pick: usize) {
        if let Some(mut flight) = self.end_flight(pick) {
            self.write_down(&mut flight);
            self.flights.push(flight);
        }
    }

    /// Tells a sender what became of its messages.
    pub(crate) fn confirm(&mut self, pick: usize) {
        if let Some(mut flight) = self.end_flight(pick) {
            self.write_down(&mut flight);
            let said = flight.landed.take().unwrap_or_default();
            flight.tell(said);
        }
    }

    /// Tells a sender nothing of its messages, until it gives up.
    pub(crate) fn refuse(&mut self, pick: usize) {
        if let Some(mut flight) = self.end_flight(pick) {
            self.are_all_blamed |= flight.records.iter().any(|record| record.topic == ACKS);
            let late = || SendError::Broker("it timed out".to_owned());
            flight.tell(flight.records.iter().map(|_| Err(late())).collect());
        }
    }

    /// From now on all goes well, and at once.
    pub(crate) fn calm(&mut self) {
        self.is_calm = true;
        while !self.flights.is_empty() {
            self.confirm(0);
        }
    }

    /// `reader` never gets what comes next.
    pub(crate) fn lose(&mut self, reader: &'static str, partition: i32) {
        for record in self.coming(reader, partition, 1) {
            let answered = answers(&record).into_iter().map(|ack| ack.event_id);
            self.blamed.extend(answered.chain(sender_of(&record).map(|sender| sender.id)));
            self.lost.insert((reader, partition, record.offset));
        }
    }

    /// Another process of `reader` has `partitions`, and reads them on from what is committed.
    pub(crate) fn assign(&mut self, reader: &'static str, partitions: Range<i32>) {
        for partition in partitions {
            let progress = self.progress.entry((reader, partition)).or_default();
            progress.next = progress.committed;
            progress.assignment += 1;
        }
    }

    /// What comes next for `reader`.
    pub(crate) fn give(
        &mut self,
        reader: &'static str,
        partition: i32,
        most: usize,
    ) -> Vec<Record> {
        let batch = self.coming(reader, partition, most);
        let progress = self.progress.get_mut(&(reader, partition));
        if let (Some(progress), Some(last)) = (progress, batch.last()) {
            progress.next = last.offset + 1;
        }
        if self.flaw == Some(Flaw::OffsetsFirst) {
            self.commit(reader, &batch);
        }
        batch
    }

    /// `reader` says that `batch` is done; what is not of the present assignment is another process's.
    pub(crate) fn commit(&mut self, reader: &'static str, batch: &[Record]) {
        for record in batch {
            let Some(progress) = self.progress.get_mut(&(reader, record.partition)) else { return };
            if progress.assignment != record.assignment {
                continue;
            }
            // The last one stands, as with the real client.
            progress.committed = record.offset + 1;
            if let Some(offset) = self.unanswered(reader, record.partition, record.offset) {
                let (partition, committed) = (record.partition, record.offset + 1);
                let detail = format!(
                    "{reader} commits {committed} of partition {partition}, and has not answered {offset}"
                );
                self.violation = Some(Violation::of(BEFORE_ANSWERS, detail));
            }
        }
    }

    /// The first event up to `last` that `reader` has not answered, though it never comes to it again.
    fn unanswered(&self, reader: &'static str, partition: i32, last: i64) -> Option<i64> {
        if topic_of(reader) == ACKS {
            return None;
        }
        let is_answered = |offset: i64| {
            self.answered.contains(&(reader.to_owned(), partition, offset))
                || self.lost.contains(&(reader, partition, offset))
        };
        let mut offsets = self.log(EVENTS, partition).iter().map(|record| record.offset);
        offsets.find(|offset| *offset <= last && !is_answered(*offset))
    }

    /// What lies there in the topic of the events.
    pub(crate) fn event_at(&self, partition: i32, offset: i64) -> Option<&Record> {
        self.log(EVENTS, partition).iter().find(|record| record.offset == offset)
    }

    /// Whether nothing is on its way, and all was read to its end.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_read = |((reader, partition), progress): (&(&'static str, i32), &Progress)| {
            self.log(topic_of(reader), *partition).iter().all(|record| {
                record.offset < progress.committed
                    || self.lost.contains(&(*reader, *partition, record.offset))
            })
        };
        self.flights.is_empty() && self.progress.iter().all(is_read)
    }

    /// How much lies in each partition, of events and of answers.
    pub(crate) fn sizes(&self) -> [Vec<usize>; 2] {
        let size = |topic, partition| self.log(topic, partition).len();
        [EVENTS, ACKS].map(|topic| (0..PARTITIONS).map(|place| size(topic, place)).collect())
    }

    /// Takes messages on their way, and returns where their sender is told what became of them.
    fn take(&mut self, records: Vec<Record>) -> oneshot::Receiver<SendResults> {
        let (reply, said) = oneshot::channel();
        let mut flight = Flight { records, landed: None, reply: Some(reply) };
        let are_events = flight.records.iter().all(|record| record.topic == EVENTS);
        if are_events && self.flaw == Some(Flaw::SentBeforeDelivery) {
            let next = |record: &Record| Ok(Some(self.end(EVENTS, record.partition)));
            flight.tell(flight.records.iter().map(next).collect());
        }
        self.flights.push(flight);
        if self.is_calm {
            self.confirm(self.flights.len() - 1);
        }
        said
    }

    fn end_flight(&mut self, pick: usize) -> Option<Flight> {
        let place = pick.checked_rem(self.flights.len())?;
        Some(self.flights.remove(place))
    }

    fn write_down(&mut self, flight: &mut Flight) {
        if flight.landed.is_none() {
            flight.landed = Some(flight.records.iter().map(|record| self.write(record)).collect());
        }
    }

    fn write(&mut self, record: &Record) -> Result<Offset, SendError> {
        if record.header("ce_type") == Some(OVERSIZED.as_bytes()) {
            self.blamed.extend(sender_of(record).map(|sender| sender.id));
            return Err(SendError::Message("it is too large".to_owned()));
        }
        let place = |ack: Ack| Some((ack.consumer, ack.partition?, ack.offset?));
        self.answered.extend(answers(record).into_iter().filter_map(place));
        let topic = if record.topic == ACKS { ACKS } else { EVENTS };
        let offset = self.end(topic, record.partition);
        let log = self.logs.entry((topic, record.partition)).or_default();
        log.push(Record { offset, ..record.clone() });
        Ok(Some(offset))
    }

    fn log(&self, topic: &'static str, partition: i32) -> &[Record] {
        self.logs.get(&(topic, partition)).map_or(&[], Vec::as_slice)
    }

    fn end(&self, topic: &'static str, partition: i32) -> i64 {
        self.log(topic, partition).last().map_or(0, |last| last.offset + 1)
    }

    fn coming(&self, reader: &'static str, partition: i32, most: usize) -> Vec<Record> {
        let Some(progress) = self.progress.get(&(reader, partition)) else { return Vec::new() };
        let comes = |record: &&Record| {
            record.offset >= progress.next
                && !self.lost.contains(&(reader, partition, record.offset))
        };
        let coming = self.log(topic_of(reader), partition).iter().filter(comes).take(most);
        let assignment = progress.assignment;
        coming.map(|record| Record { assignment, ..record.clone() }).collect()
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
    pub(crate) broker: SharedBroker,
    pub(crate) from: String,
    pub(crate) death: CancellationToken,
}

impl Courier {
    async fn bring(&self, messages: &[Message]) -> SendResults {
        if self.death.is_cancelled() {
            pending::<()>().await;
        }
        let records = messages.iter().map(|message| self.record(message)).collect();
        let said = lock(&self.broker).take(records);
        said.await.unwrap_or_default()
    }

    fn record(&self, message: &Message) -> Record {
        let mut record = Record::from(message.clone());
        record.headers.push((FROM.to_owned(), self.from.clone().into_bytes()));
        record
    }
}

impl EventSender for Courier {
    fn send_all<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, SendResults> {
        Box::pin(self.bring(messages))
    }

    fn partitions<'a>(&'a self, _topic: &'a str) -> BoxFuture<'a, Result<i32, String>> {
        Box::pin(async { Ok(PARTITIONS) })
    }
}

impl AckSender for Courier {
    async fn send_all(&self, messages: &[Message]) -> SendResults {
        self.bring(messages).await
    }

    async fn leaders(&self, _topic: &str) -> Result<BTreeSet<i32>, String> {
        Ok((0..PARTITIONS).collect())
    }
}

/// What somebody reads: the sender the answers, consumers the events.
fn topic_of(reader: &str) -> &'static str {
    if reader == SENDER { ACKS } else { EVENTS }
}

/// The answers that a message brings, if it brings some.
fn answers(record: &Record) -> Vec<Ack> {
    let payload = record.payload.as_deref().unwrap_or_default();
    serde_json::from_slice(payload).map_or_else(|_| Vec::new(), |batch: AckBatch| batch.acks)
}
