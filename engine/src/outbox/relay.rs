//! The relay: publishes PENDING events and marks them SENT once the broker confirms.
//!
//! Nothing is locked and no transaction is open while messages travel: a lease on its shards keeps other
//! relays away, and a fencing token keeps late writes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::event::Event;
use common::telemetry::{Delivery, Span, Spans, Step};
use diesel::QueryResult;

use super::advance::advance;
use super::in_flight::InFlight;
use super::lease::LeaseSet;
use super::offsets::{KnownOffsets, offsets_of};
use super::partition_backoff::PartitionBackoff;
use super::state::{Policy, Trigger};
use super::store::{self, DueRow, SentRow};
use super::update::{Advanced, Update};
use super::{SHARDS, partition_of, pause};
use crate::counters;
use crate::kafka::{Envelope, Message, Offset, Producer, SendError};

/// What a relay works with.
#[derive(Clone)]
pub struct RelayParts {
    /// The service's database.
    pub db: Db,
    /// Time and chance.
    pub env: Env,
    /// What sends.
    pub producer: Producer,
    /// The numbers that transitions go by.
    pub policy: Policy,
    /// What is sent and unanswered.
    pub in_flight: InFlight,
    /// Where the sends of traces are written down.
    pub spans: Spans,
    /// The service's name, which events name as their source.
    pub service: String,
    /// The topic that events go to.
    pub topic: String,
    /// Events of one step at the most.
    pub batch: usize,
}

/// Sends a service's events.
pub struct Relay {
    parts: RelayParts,
    partitions: Mutex<Option<i32>>,
    backoff: PartitionBackoff,
    offsets: KnownOffsets,
}

/// By how much sends of several instances may overlap, and their clocks differ.
const OVERLAP: Duration = Duration::from_secs(2);

/// What one step of the relay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayOutcome {
    /// Events that the broker confirmed and that are SENT now.
    pub sent: usize,
    /// Events that can't be produced as they are.
    pub refused: usize,
    /// How long after its commit each event was sent for the first time.
    pub first_sent: Vec<Duration>,
    /// Whether everything that was due and allowed is done.
    pub drained: bool,
    /// Why some or all events are not sent now, if it is not their own fault.
    pub hindered: Option<String>,
}

impl Relay {
    /// A relay; it has asked nobody anything yet.
    pub fn new(parts: RelayParts) -> Self {
        Self {
            parts,
            partitions: Mutex::new(None),
            backoff: PartitionBackoff::default(),
            offsets: KnownOffsets::default(),
        }
    }

    /// One step: reads what is due in the shards of `held`, sends it, notes what the broker confirmed.
    ///
    /// # Errors
    /// When the database fails: what was sent but not noted is sent again, as the same attempt.
    pub async fn run_once(&self, held: &LeaseSet) -> Result<RelayOutcome, DbError> {
        let partitions = match self.partitions().await {
            Ok(partitions) => partitions,
            Err(cause) => {
                let hindered = Some(cause);
                return Ok(RelayOutcome { drained: true, hindered, ..RelayOutcome::default() });
            }
        };
        let mut room = self.parts.in_flight.room(partitions);
        self.backoff.leave_out(&mut room);
        let shards = open_shards(held, &room, partitions);
        if shards.is_empty() || !held.is_valid() {
            let hindered = self.backoff.cause();
            return Ok(RelayOutcome { drained: true, hindered, ..RelayOutcome::default() });
        }
        self.offsets.learn(&self.parts.db, &self.parts.topic).await?;
        let (now, limit) = (self.parts.env.now(), self.parts.batch.max(1));
        let due: Vec<DueRow> = self
            .parts
            .db
            .read(move |conn| {
                conn.read_by_index(|conn| due(conn, now, &shards, limit)).map_err(DbError::from)
            })
            .await?;
        let found = due.len();
        if found < limit {
            let waiting = due.iter().map(|row| partition_of(row.shard, partitions)).collect();
            self.backoff.forget_idle(&room, &waiting);
        }
        let due: Vec<DueRow> =
            due.into_iter().filter(|row| take_room(&mut room, row, partitions)).collect();
        let mut outcome = self.send(held, due, partitions).await?;
        outcome.drained = found < limit || outcome.sent == 0;
        outcome.hindered = self.backoff.cause();
        Ok(outcome)
    }

    async fn send(
        &self,
        held: &LeaseSet,
        mut due: Vec<DueRow>,
        partitions: i32,
    ) -> Result<RelayOutcome, DbError> {
        let at = self.parts.env.now();
        let spans = self.begin_spans(&mut due, partitions);
        let messages: Vec<Message> =
            due.iter().map(|row| self.message(row, row.attempt + 1, partitions)).collect();
        let results = self.parts.producer.send_all(&messages).await;
        self.end_spans(spans, &results);
        let mut outcome = RelayOutcome::default();
        let (mut sent, mut refused, mut troubled) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (row, result) in due.iter().zip(results) {
            let partition = partition_of(row.shard, partitions);
            match result {
                Ok(offset) => {
                    self.backoff.end(partition);
                    sent.push(SentRow {
                        id: row.id,
                        shard: row.shard,
                        attempt: row.attempt + 1,
                        partition,
                        offset,
                        sent_us: at,
                    });
                }
                Err(error @ SendError::Message(_)) => {
                    let broken = Update::new(row.id, Trigger::Unproducible);
                    refused.push((row.shard, broken.because(error.to_string())));
                }
                Err(error @ SendError::Broker(_)) => {
                    troubled.insert(partition, error.to_string());
                }
            }
        }
        self.backoff.begin(troubled, self.parts.env.chance());
        outcome.refused = refused.len();
        let facts: BTreeMap<_, _> =
            due.iter().map(|row| (row.id, (row.size, row.created_us))).collect();
        for row in self.note(held, sent, refused).await? {
            outcome.sent += 1;
            let Some((bytes, created)) = facts.get(&row.id) else { continue };
            self.parts.in_flight.add(row.partition, i64::from(*bytes));
            if row.attempt == 1 {
                outcome.first_sent.push(at.since(*created));
            }
        }
        Ok(outcome)
    }

    /// Writes down what the broker said, as far as the shards are still this relay's; returns what is SENT now.
    async fn note(
        &self,
        held: &LeaseSet,
        sent: Vec<SentRow>,
        mut refused: Vec<(i16, Update)>,
    ) -> Result<Vec<SentRow>, DbError> {
        if sent.is_empty() && refused.is_empty() {
            return Ok(Vec::new());
        }
        let (held, env, policy) = (held.clone(), self.parts.env.clone(), self.parts.policy.clone());
        let (topic, offsets) = (self.parts.topic.clone(), offsets_of(&sent));
        let anew = self.offsets.begun_anew(&offsets);
        let before = sent.first().map_or(env.now(), |row| row.sent_us).before(OVERLAP);
        let (sent, done) = self
            .parts
            .db
            .write::<_, DbError>(move |conn| {
                conn.plan_by_index()?;
                let mine = store::fence(conn, &held)?;
                let mut sent: Vec<SentRow> =
                    sent.into_iter().filter(|row| mine.contains(&row.shard)).collect();
                let marked = store::mark_sent(conn, &sent)?;
                store::begin_anew(conn, &topic, &anew, before)?;
                sent.retain(|row| marked.contains(&row.id));
                refused.retain(|(shard, _)| mine.contains(shard));
                let mut done = Advanced::default();
                if !refused.is_empty() {
                    let refused = refused.into_iter().map(|(_, update)| update).collect();
                    done = advance(conn, &env, &policy, refused)?;
                }
                if !sent.is_empty() {
                    counters::add(conn, counters::SENT, env.now(), sent.len())?;
                }
                Ok((sent, done))
            })
            .await?;
        self.offsets.remember(&offsets);
        done.log_exhausted();
        Ok(sent)
    }

    /// Whether an event waits to be sent since `before` or longer.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn any_pending(conn: &mut Conn, before: Timestamp) -> QueryResult<bool> {
        store::any_pending(conn, before)
    }

    /// Sends a SENT event once more, to see whether anybody answers; true when it is on its way.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn probe(&self, id: common::ids::EventId) -> Result<bool, DbError> {
        let Ok(partitions) = self.partitions().await else {
            return Ok(false);
        };
        let found = self
            .parts
            .db
            .read(move |conn| store::message_of(conn, id).map_err(DbError::from))
            .await?;
        let Some(row) = found else { return Ok(false) };
        let attempt = row.attempt + 1;
        let mut rows = [row];
        let spans = self.begin_spans(&mut rows, partitions);
        let messages = rows.map(|row| self.message(&row, attempt, partitions));
        let results = self.parts.producer.send_all(&messages).await;
        self.end_spans(spans, &results);
        let Some(Ok(offset)) = results.first().cloned() else { return Ok(false) };
        let Some(partition) = messages.first().and_then(|message| message.partition) else {
            return Ok(false);
        };
        let (env, policy) = (self.parts.env.clone(), self.parts.policy.clone());
        let probed = vec![Update::new(id, Trigger::Probed { attempt, partition, offset })];
        self.parts
            .db
            .write(move |conn| Ok(advance(conn, &env, &policy, probed)?))
            .await
            .map(|_| true)
    }

    /// The spans of those whose trace is recorded, by their place; their messages go on from there.
    fn begin_spans(&self, rows: &mut [DueRow], partitions: i32) -> Vec<(usize, Span)> {
        let begin = |(place, row): (usize, &mut DueRow)| {
            let mut traceparent = row.traceparent.take();
            let about = || Delivery {
                id: row.id,
                key: row.key.clone(),
                attempt: row.attempt + 1,
                topic: self.parts.topic.clone(),
                partition: Some(partition_of(row.shard, partitions)),
            };
            let span = self.parts.spans.begin(Step::Send, &mut traceparent, about);
            row.traceparent = traceparent;
            Some((place, span?))
        };
        rows.iter_mut().enumerate().filter_map(begin).collect()
    }

    fn end_spans(&self, spans: Vec<(usize, Span)>, results: &[Result<Offset, SendError>]) {
        for (place, span) in spans {
            let failure = results.get(place).and_then(|result| result.as_ref().err());
            self.parts.spans.end(span, failure.map(ToString::to_string).as_deref());
        }
    }

    fn message(&self, row: &DueRow, attempt: i32, partitions: i32) -> Message {
        let event = Event {
            id: row.id,
            event_type: row.event_type.clone(),
            key: row.key.clone(),
            epoch: row.epoch,
            attempt,
            time: row.created_us,
            traceparent: row.traceparent.clone(),
            data: row.payload.clone().into_bytes(),
        };
        Envelope { source: format!("/{}", self.parts.service), event }
            .into_message(&self.parts.topic, partition_of(row.shard, partitions))
    }

    /// The topic's partitions: asked of the broker until it answers, and again by [`Relay::forget_topology`].
    async fn partitions(&self) -> Result<i32, String> {
        if let Some(known) = *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(known);
        }
        let (producer, topic) = (self.parts.producer.clone(), self.parts.topic.clone());
        let asked = tokio::task::spawn_blocking(move || producer.partitions(&topic)).await;
        let asked = asked.map_err(|error| error.to_string())??;
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(asked)
    }

    /// Lets the next step ask the broker again how many partitions there are.
    pub fn forget_topology(&self) {
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What is due and not paused.
fn due(
    conn: &mut Conn,
    now: Timestamp,
    shards: &BTreeSet<i16>,
    limit: usize,
) -> QueryResult<Vec<DueRow>> {
    let paused = pause::all(conn)?;
    match paused.everything {
        true => Ok(Vec::new()),
        false => store::due(conn, now, shards, &paused.keys, limit),
    }
}

/// The held shards whose partitions have room.
fn open_shards(
    held: &LeaseSet,
    room: &BTreeMap<i32, (i64, i64)>,
    partitions: i32,
) -> BTreeSet<i16> {
    (0..SHARDS)
        .filter(|shard| held.tokens.contains_key(shard))
        .filter(|shard| room.contains_key(&partition_of(*shard, partitions)))
        .collect()
}

/// Takes a place for `row`; the last event of a partition may exceed the bytes, so that a large one passes.
fn take_room(room: &mut BTreeMap<i32, (i64, i64)>, row: &DueRow, partitions: i32) -> bool {
    let Some((events, bytes)) = room.get_mut(&partition_of(row.shard, partitions)) else {
        return false;
    };
    if *events <= 0 || *bytes <= 0 {
        return false;
    }
    *events -= 1;
    *bytes -= i64::from(row.size);
    true
}
