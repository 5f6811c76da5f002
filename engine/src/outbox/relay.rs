//! The relay: publishes PENDING events and marks them SENT once the broker confirms.
//!
//! Nothing is locked and no transaction is open while messages travel: a lease on its shards keeps other
//! relays away, and a fencing token keeps late writes out. Each partition goes its own way: one that the broker does
//! not answer for keeps no other waiting. Three things go on at the same time: events are read while earlier ones are on
//! their way, and what the broker said of still earlier ones is noted; but of one shard only one of the three, so that
//! what comes next waits for what comes before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, Url};
use common::env::Env;
use common::ids::EventId;
use common::telemetry::Spans;
use diesel::QueryResult;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::advance::advance;
use super::alarm::notify_in;
use super::first_attempts::FirstAttempts;
use super::in_flight::InFlight;
use super::lease::LeaseSet;
use super::log::{LogFeed, LogReader};
use super::offsets::KnownOffsets;
use super::partition_backoff::PartitionBackoff;
use super::partition_of;
use super::position::Positions;
use super::send::{EventSender, Origin, PartitionSend};
use super::state::{Policy, Trigger};
use super::store;
use super::turn::{After, BETWEEN_READS, Log, Turn};
use super::under_way::{SENDS, UnderWay};
use super::update::Update;

/// What a relay works with.
#[derive(Clone)]
pub struct RelayParts {
    /// The service's database.
    pub db: Db,
    /// Time and chance.
    pub env: Env,
    /// Who sends what was never sent.
    pub first_attempts: FirstAttempts,
    /// What sends.
    pub producer: Arc<dyn EventSender>,
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
    /// Events of one read at the most, of those that were never sent and of those that were; the log may bring more.
    pub batch: usize,
    /// How long a step waits for what it sends; what takes longer is noted by a later step.
    pub patience: Duration,
    /// What is notified when a step has something to note.
    pub woken: Arc<Notify>,
}

/// Sends a service's events.
pub struct Relay {
    pub(super) parts: RelayParts,
    partitions: Mutex<Option<i32>>,
    pub(super) backoff: PartitionBackoff,
    pub(super) offsets: KnownOffsets,
    pub(super) positions: Arc<Positions>,
    /// What comes by the log, if that is read.
    pub(super) log: LogFeed,
    /// Whose turn it is, the log's or the table's.
    turn: Mutex<Turn>,
    /// The shard that is read first: each has its turn.
    pub(super) first: AtomicI16,
    under_way: tokio::sync::Mutex<UnderWay>,
}

/// How far a step got that reads and sends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Begun {
    /// Everything that is due and allowed is done, or on its way.
    All,
    /// There is more, and it can be read at once.
    More,
    /// There may be more in shards that could not be read, since what is on its way is not noted yet.
    Behind,
}

/// What one step of the relay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayOutcome {
    /// Events that the broker confirmed and that are SENT now.
    pub sent: usize,
    /// Those of them that came by the log.
    pub by_log: usize,
    /// Events that can't be produced as they are.
    pub refused: usize,
    /// How long after its commit each event was sent for the first time.
    pub first_sent: Vec<Duration>,
    /// Whether everything that was due and allowed is done, or on its way.
    pub drained: bool,
    /// Why some or all events are not sent now, if it is not their own fault.
    pub hindered: Option<String>,
}

impl RelayOutcome {
    fn add(&mut self, noted: Self) {
        self.sent += noted.sent;
        self.by_log += noted.by_log;
        self.refused += noted.refused;
        self.first_sent.extend(noted.first_sent);
    }
}

impl Relay {
    /// A relay; it has asked nobody anything yet.
    pub fn new(parts: RelayParts) -> Self {
        Self {
            parts,
            partitions: Mutex::new(None),
            backoff: PartitionBackoff::default(),
            offsets: KnownOffsets::default(),
            positions: Arc::default(),
            log: LogFeed::default(),
            turn: Mutex::default(),
            first: AtomicI16::new(0),
            under_way: tokio::sync::Mutex::default(),
        }
    }

    /// The same relay, whose steps wait for `patience` for what they send.
    #[must_use]
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.parts.patience = patience;
        self
    }

    /// What brings it the log of its database, as long as it is told to: see [`LogReader::read_while`].
    pub fn log_reader(&self, url: Url, most_kept: u64) -> LogReader {
        LogReader {
            db: self.parts.db.clone(),
            env: self.parts.env.clone(),
            url,
            service: self.parts.service.clone(),
            most_kept,
            feed: self.log.clone(),
            woken: Arc::clone(&self.parts.woken),
        }
    }

    /// One step: reads what is due in the shards of `held`, sends it, notes what the broker said of this and earlier sends.
    ///
    /// # Errors
    /// When the database fails: what was sent but not noted is sent again, as the same attempt.
    pub async fn run_once(&self, held: &LeaseSet) -> Result<RelayOutcome, DbError> {
        let mut under_way = self.under_way.lock().await;
        self.log.tend(&held.tokens, Instant::now().into_std());
        while let Ok(send) = under_way.done.try_recv() {
            self.take_answer(&mut under_way, send);
        }
        let frees_shards = !under_way.answered.is_empty();
        let begun = match self.partitions().await {
            Ok(partitions) => self.begin_and_note(held, partitions, &mut under_way).await?,
            Err(cause) => {
                self.note_answered(held, &mut under_way).await?;
                let told = std::mem::take(&mut under_way.untold);
                return Ok(RelayOutcome { drained: true, hindered: Some(cause), ..told });
            }
        };
        let drained = match begun {
            Begun::All => {
                self.note_what_ends(held, &mut under_way, self.parts.patience).await?;
                true
            }
            // The next step reads on while these are on their way.
            Begun::More => false,
            // They could not be read before, and nothing else may come that wakes the relay.
            Begun::Behind if frees_shards => false,
            Begun::Behind => {
                let deadline = Instant::now() + self.parts.patience;
                !self.wait_for_one(&mut under_way, deadline).await
            }
        };
        let told = std::mem::take(&mut under_way.untold);
        Ok(RelayOutcome { drained, hindered: self.backoff.cause(), ..told })
    }

    /// Waits for what is on its way, for `patience` at the most, and notes it: before the relay ends.
    ///
    /// # Errors
    /// As for [`Relay::run_once`].
    pub async fn finish(&self, held: &LeaseSet, patience: Duration) -> Result<(), DbError> {
        let mut under_way = self.under_way.lock().await;
        self.note_what_ends(held, &mut under_way, patience).await
    }

    /// Notes what the broker answers within `patience`; it does not wait for partitions that gave trouble before.
    async fn note_what_ends(
        &self,
        held: &LeaseSet,
        under_way: &mut UnderWay,
        patience: Duration,
    ) -> Result<(), DbError> {
        let deadline = Instant::now() + patience;
        while self.wait_for_one(under_way, deadline).await {}
        self.note_answered(held, under_way).await
    }

    async fn note_answered(
        &self,
        held: &LeaseSet,
        under_way: &mut UnderWay,
    ) -> Result<(), DbError> {
        let answered = std::mem::take(&mut under_way.answered);
        let shards = shards_of(&answered);
        let noted = self.note_all(held, answered).await;
        under_way.end(&shards);
        under_way.untold.add(noted?);
        Ok(())
    }

    /// Reads what is due and sets it on its way, while what the broker has answered is noted.
    async fn begin_and_note(
        &self,
        held: &LeaseSet,
        partitions: i32,
        under_way: &mut UnderWay,
    ) -> Result<Begun, DbError> {
        let RelayParts { db, in_flight, .. } = &self.parts;
        // Before that is noted: what is counted must not be on its way here as well.
        in_flight.refresh(db, held, partitions).await?;
        let answered = std::mem::take(&mut under_way.answered);
        let shards = shards_of(&answered);
        let begun = self.begin(held, partitions, under_way);
        let (begun, noted) = tokio::join!(begun, self.note_all(held, answered));
        under_way.end(&shards);
        under_way.untold.add(noted?);
        begun
    }

    /// Reads what is due and sets it on its way.
    async fn begin(
        &self,
        held: &LeaseSet,
        partitions: i32,
        under_way: &mut UnderWay,
    ) -> Result<Begun, DbError> {
        let RelayParts { db, in_flight, topic, .. } = &self.parts;
        let mut room = in_flight.room(held, partitions);
        self.backoff.leave_out(&mut room);
        if room.is_empty() || !held.is_valid() {
            return Ok(Begun::All);
        }
        let (shards, are_all) = self.free_shards(held, &mut room, partitions, under_way);
        if shards.is_empty() {
            return Ok(Begun::Behind);
        }
        self.offsets.learn(db, topic).await?;
        let log = self.state_of_the_log();
        let is_tables = self.turn().begin(log, Instant::now());
        let (found, batches) = match is_tables {
            true => self.take_from_table(held, shards, &mut room, partitions).await?,
            false => self.take_from_log(&shards, &mut room, partitions).await?,
        };
        let was_cut = found >= self.most(is_tables);
        if is_tables {
            // Where there was something, there may be more of what was on its way and could not be read.
            self.turn().read(was_cut, found > 0 && !are_all);
        }
        for (partition, batch) in batches {
            under_way.send(&self.parts, partition, batch);
        }
        Ok(if was_cut { Begun::More } else { self.all_found(are_all) })
    }

    /// The shards that can be read, beginning with the one whose turn it is, and whether those are all that have room;
    /// `room` keeps only partitions that may be sent to.
    fn free_shards(
        &self,
        held: &LeaseSet,
        room: &mut BTreeMap<i32, (i64, i64)>,
        partitions: i32,
        under_way: &UnderWay,
    ) -> (Vec<i16>, bool) {
        let with_room = room.len();
        room.retain(|partition, _| self.may_be_sent_to(*partition, partitions, under_way));
        let mut shards = self.shards_in_turn(held, room, partitions);
        let in_turn = shards.len();
        shards.retain(|shard| !under_way.shards.contains(shard));
        let are_all = room.len() == with_room && shards.len() == in_turn;
        (shards, are_all)
    }

    /// Whether another send may begin; to a partition that gave trouble before, only when all of the last one is noted.
    fn may_be_sent_to(&self, partition: i32, partitions: i32, under_way: &UnderWay) -> bool {
        let is_of_it = |shard: &i16| partition_of(*shard, partitions) == partition;
        if self.backoff.is_troubled(partition) {
            return !under_way.shards.iter().any(is_of_it);
        }
        under_way.sends.get(&partition).is_none_or(|sends| *sends < SENDS)
    }

    /// How far a step got that took all there was, from the table or from the log, in the shards that could be read.
    fn all_found(&self, are_all: bool) -> Begun {
        let log = self.state_of_the_log();
        let after = self.turn().end(log);
        if after == After::Later {
            self.wake_in(BETWEEN_READS);
        }
        match after {
            After::Again => Begun::More,
            _ if are_all => Begun::All,
            _ => Begun::Behind,
        }
    }

    pub(super) fn wake_in(&self, pause: Duration) {
        notify_in(&self.parts.woken, pause);
    }

    fn state_of_the_log(&self) -> Log {
        match (self.log.is_followed(), self.log.is_empty()) {
            (false, _) => Log::Unread,
            (true, true) => Log::Empty,
            (true, false) => Log::Waiting,
        }
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn batch(&self) -> usize {
        self.parts.batch.max(1)
    }

    /// The broker has answered: before anything else is sent, it is known where there is trouble.
    fn take_answer(&self, under_way: &mut UnderWay, send: PartitionSend) {
        match send.trouble() {
            Some(trouble) => {
                let chance = self.parts.env.chance();
                self.backoff.begin(send.partition, trouble.to_string(), chance);
            }
            None => self.backoff.end(send.partition),
        }
        under_way.answer(send);
    }

    /// Waits for the next answer of the broker, until `deadline`, but not of partitions that gave trouble before.
    async fn wait_for_one(&self, under_way: &mut UnderWay, deadline: Instant) -> bool {
        let is_awaited = |partition: &i32| !self.backoff.is_troubled(*partition);
        let next = match under_way.done.try_recv() {
            Ok(send) => Some(send),
            Err(_) if under_way.sends.keys().any(is_awaited) => {
                timeout_at(deadline, under_way.done.recv()).await.ok().flatten()
            }
            Err(_) => None,
        };
        let is_one = next.is_some();
        next.into_iter().for_each(|send| self.take_answer(under_way, send));
        is_one
    }

    /// Whether an event waits to be sent since `before` or longer.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn any_pending(conn: &mut Conn, before: Timestamp) -> QueryResult<bool> {
        store::any_pending(conn, before)
    }

    /// Since when, by its writer's clock, the oldest event waits that was never sent, if one does.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn unsent_since(conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
        store::oldest_fresh(conn)
    }

    /// Sends a SENT event once more, to see whether anybody answers; true when it is on its way.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn probe(&self, id: EventId) -> Result<bool, DbError> {
        let Ok(partitions) = self.partitions().await else {
            return Ok(false);
        };
        let found = self
            .parts
            .db
            .read(move |conn| store::message_of(conn, id).map_err(DbError::from))
            .await?;
        let Some(row) = found else { return Ok(false) };
        let (attempt, partition) = (row.attempt + 1, partition_of(row.shard, partitions));
        let sent = self.parts.send(partition, vec![row], Origin::default()).await;
        let Some(Ok(offset)) = sent.results.first().cloned() else { return Ok(false) };
        let (env, policy) = (self.parts.env.clone(), self.parts.policy.clone());
        let probed = vec![Update::new(id, Trigger::Probed { attempt, partition, offset })];
        self.parts
            .db
            .write::<_, DbError>(move |conn| {
                conn.plan_by_index()?;
                Ok(advance(conn, &env, &policy, probed)?)
            })
            .await
            .map(|_| true)
    }

    /// The topic's partitions: asked of the broker until it answers, and again by [`Relay::forget_topology`].
    async fn partitions(&self) -> Result<i32, String> {
        if let Some(known) = *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(known);
        }
        let asked = self.parts.producer.partitions(&self.parts.topic).await?;
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(asked)
    }

    /// Lets the next step ask the broker again how many partitions there are.
    pub fn forget_topology(&self) {
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn shards_of(sends: &[PartitionSend]) -> BTreeSet<i16> {
    sends.iter().flat_map(|send| &send.rows).map(|row| row.shard).collect()
}
