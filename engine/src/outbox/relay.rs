//! The relay: publishes PENDING events and marks them SENT once the broker confirms.
//!
//! Nothing is locked and no transaction is open while messages travel: a lease on its shards keeps other
//! relays away, and a fencing token keeps late writes out. Each partition goes its own way: one that the broker does
//! not answer for keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, Url};
use common::env::Env;
use common::ids::EventId;
use common::telemetry::Spans;
use diesel::QueryResult;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use super::advance::advance;
use super::first_attempts::FirstAttempts;
use super::in_flight::InFlight;
use super::lease::LeaseSet;
use super::log::{Ended, LogFeed, LogReader, Place, TablesShare, Taken};
use super::offsets::KnownOffsets;
use super::partition_backoff::PartitionBackoff;
use super::position::{Positions, ReadState};
use super::send::{Origin, PartitionSend};
use super::state::{Policy, Trigger};
use super::store::{self, DueRow, Fresh, ShardRead};
use super::turn::{After, BETWEEN_READS, Log, Turn};
use super::update::Update;
use super::{SHARDS, partition_of, pause};
use crate::kafka::Producer;

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
    /// Events of one step at the most, of those that were never sent and of those that were.
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
    first: AtomicI16,
    under_way: tokio::sync::Mutex<UnderWay>,
}

/// Sends that the broker has neither confirmed nor refused yet: one per partition at the most.
struct UnderWay {
    partitions: BTreeSet<i32>,
    done: mpsc::UnboundedReceiver<PartitionSend>,
    tell: mpsc::UnboundedSender<PartitionSend>,
}

impl Default for UnderWay {
    fn default() -> Self {
        let (tell, done) = mpsc::unbounded_channel();
        Self { partitions: BTreeSet::new(), done, tell }
    }
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

/// How soon what the log told of is looked at again, where its transaction is not seen yet.
const UNTIL_SEEN: Duration = Duration::from_millis(2);

/// What goes to one partition, and where it came from.
type Batch = (Vec<DueRow>, Origin);

/// What a step read of the table.
#[derive(Default)]
struct Read {
    state: ReadState,
    rows: Vec<DueRow>,
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
        let drained = match self.partitions().await {
            Ok(partitions) => self.begin(held, partitions, &mut under_way).await?,
            Err(cause) => {
                let done = self.finished(&mut under_way, Duration::ZERO).await;
                let outcome = self.note_all(held, done).await?;
                return Ok(RelayOutcome { drained: true, hindered: Some(cause), ..outcome });
            }
        };
        // Where there is more to read, the next step reads it while these are on their way.
        let patience = if drained { self.parts.patience } else { Duration::ZERO };
        let done = self.finished(&mut under_way, patience).await;
        let outcome = self.note_all(held, done).await?;
        Ok(RelayOutcome { drained, hindered: self.backoff.cause(), ..outcome })
    }

    /// Waits for what is on its way, for `patience` at the most, and notes it: before the relay ends.
    ///
    /// # Errors
    /// As for [`Relay::run_once`].
    pub async fn finish(&self, held: &LeaseSet, patience: Duration) -> Result<(), DbError> {
        let done = self.finished(&mut *self.under_way.lock().await, patience).await;
        self.note_all(held, done).await.map(drop)
    }

    /// Reads what is due and sets it on its way; returns whether that was all that can be sent now.
    async fn begin(
        &self,
        held: &LeaseSet,
        partitions: i32,
        under_way: &mut UnderWay,
    ) -> Result<bool, DbError> {
        let RelayParts { db, in_flight, topic, .. } = &self.parts;
        in_flight.refresh(db, held, partitions).await?;
        let mut room = in_flight.room(held, partitions);
        room.retain(|partition, _| !under_way.partitions.contains(partition));
        self.backoff.leave_out(&mut room);
        let shards = self.shards_in_turn(held, &room, partitions);
        if shards.is_empty() || !held.is_valid() {
            return Ok(true);
        }
        self.offsets.learn(db, topic).await?;
        let log = self.state_of_the_log();
        let is_tables = self.turn().begin(log, Instant::now());
        let (found, batches) = match is_tables {
            true => self.take_from_table(held, shards, &mut room, partitions).await?,
            false => self.take_from_log(&shards, &mut room, partitions).await?,
        };
        for (partition, (rows, origin)) in batches {
            under_way.partitions.insert(partition);
            let (parts, tell) = (self.parts.clone(), under_way.tell.clone());
            tokio::spawn(async move {
                // Nobody hears it any more when the relay has ended.
                let _ = tell.send(parts.send(partition, rows, origin).await);
                parts.woken.notify_one();
            });
        }
        if found >= self.batch() {
            return Ok(false);
        }
        let log = self.state_of_the_log();
        let after = self.turn().end(log);
        if after == After::Later {
            self.wake_in(BETWEEN_READS);
        }
        Ok(after != After::Again)
    }

    fn wake_in(&self, pause: Duration) {
        let woken = Arc::clone(&self.parts.woken);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            woken.notify_one();
        });
    }

    fn state_of_the_log(&self) -> Log {
        match (self.log.is_followed(), self.log.is_empty()) {
            (false, _) => Log::Unread,
            (true, true) => Log::Empty,
            (true, false) => Log::Waiting,
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self) -> usize {
        self.parts.batch.max(1)
    }

    /// What the log has brought, as far as there is room; returns how much was found, and it by partition.
    async fn take_from_log(
        &self,
        shards: &[i16],
        room: &mut BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<(usize, BTreeMap<i32, Batch>), DbError> {
        if self.log.is_empty() {
            return Ok((0, BTreeMap::new()));
        }
        let read = |conn: &mut Conn| Ok::<_, DbError>((pause::all(conn)?, store::ended(conn)?));
        let (paused, ended) = self.parts.db.read(read).await?;
        if paused.everything {
            self.log.leave_all();
            return Ok((0, BTreeMap::new()));
        }
        let is_paused = |row: &DueRow| paused.keys.contains(&row.key);
        // The log tells of a commit before others see it; what is not seen can't be marked, and an answer to it not settled.
        let is_seen = |row: &DueRow| ended.as_ref().is_some_and(|ended| ended.has(row.tx));
        let mut all_seen = true;
        let taken = self.log.take(shards, self.batch(), |row| {
            all_seen &= is_seen(row);
            is_seen(row) && (is_paused(row) || take_room(room, row, partitions))
        });
        if !all_seen {
            self.wake_in(UNTIL_SEEN);
        }
        self.end_turn(shards, &taken.rows, self.batch());
        let found = taken.rows.len();
        let (Taken { rows, places }, left) = taken.split(|row| !is_paused(row));
        self.log.finish(left);
        let mut batches: BTreeMap<i32, (Vec<DueRow>, Vec<Place>)> = BTreeMap::new();
        for (row, place) in rows.into_iter().zip(places) {
            self.parts.in_flight.leaves(row.shard, i64::from(row.size));
            let batch = batches.entry(partition_of(row.shard, partitions)).or_default();
            batch.0.push(row);
            batch.1.push(place);
        }
        let by_log = |(partition, (rows, places))| (partition, (rows, Origin::Log(places)));
        Ok((found, batches.into_iter().map(by_log).collect()))
    }

    /// What is due in the table, as far as there is room; returns how much was found, and it by partition.
    async fn take_from_table(
        &self,
        held: &LeaseSet,
        shards: Vec<i16>,
        room: &mut BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<(usize, BTreeMap<i32, Batch>), DbError> {
        let Read { mut state, rows } = self.read(held, shards, room, partitions).await?;
        let found = rows.len();
        let was_cut = found >= self.batch();
        self.turn().read(was_cut);
        if !was_cut && self.log.is_empty() {
            let waiting = rows.iter().map(|row| partition_of(row.shard, partitions)).collect();
            self.backoff.forget_idle(room, &waiting);
        }
        let mut batches: BTreeMap<i32, Vec<DueRow>> = BTreeMap::new();
        for row in rows {
            if take_room(room, &row, partitions) {
                self.parts.in_flight.leaves(row.shard, i64::from(row.size));
                batches.entry(partition_of(row.shard, partitions)).or_default().push(row);
            } else {
                state.whole.remove(&row.shard);
            }
        }
        let read = |(partition, rows)| (partition, (rows, Origin::Table(state.clone())));
        Ok((found, batches.into_iter().map(read).collect()))
    }

    async fn read(
        &self,
        held: &LeaseSet,
        shards: Vec<i16>,
        room: &BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Result<Read, DbError> {
        let (now, batch) = (self.parts.env.now(), self.batch());
        let most = i64::try_from(batch).unwrap_or(i64::MAX);
        let limit = |shard: &i16| {
            room.get(&partition_of(*shard, partitions)).map_or(0, |(events, _)| most.min(*events))
        };
        let limits: Vec<i64> = shards.iter().map(limit).collect();
        let (positions, leases, order) =
            (Arc::clone(&self.positions), held.clone(), shards.clone());
        let (log, first_attempts) = (self.log.clone(), self.parts.first_attempts);
        let read = self.parts.db.read::<_, DbError>(move |conn| {
            let due = |conn: &mut Conn| {
                let ended = tables_share(conn, &log)?;
                let paused = pause::all(conn)?;
                if paused.everything {
                    return Ok(Read::default());
                }
                let seen = ended.as_ref().map_or(i64::MAX, |ended| ended.xmin);
                let horizon = store::horizon(conn)?.min(seen);
                let fresh = first_attempts.fresh(conn, now)?;
                let (generation, after) = match fresh {
                    Fresh::All => positions.read(&leases, &shards, &paused.keys, horizon),
                    _ => Positions::none(&shards),
                };
                let reads = shards.iter().zip(after).zip(limits);
                let reads: Vec<ShardRead> = reads
                    .map(|((shard, after), limit)| ShardRead { shard: *shard, after, limit })
                    .collect();
                let at = (now, fresh);
                let rows = store::due(conn, at, &reads, ended.as_ref(), &paused.keys, batch)?;
                let whole = match fresh {
                    Fresh::All => whole(&reads, &rows, batch),
                    _ => BTreeSet::new(),
                };
                Ok(Read { state: ReadState { generation, horizon, whole }, rows })
            };
            Ok(conn.read_by_index(due)?)
        });
        let read = read.await?;
        self.end_turn(&order, &read.rows, batch);
        let busy: BTreeSet<i16> = read.rows.iter().map(|row| row.shard).collect();
        for shard in read.state.whole.difference(&busy) {
            let ReadState { generation, .. } = read.state;
            self.positions.advance(generation, held, *shard, read.state.end());
        }
        Ok(read)
    }

    /// The held shards whose partitions have room, beginning with the one whose turn it is.
    fn shards_in_turn(
        &self,
        held: &LeaseSet,
        room: &BTreeMap<i32, (i64, i64)>,
        partitions: i32,
    ) -> Vec<i16> {
        let first = self.first.load(Ordering::Relaxed);
        (0..SHARDS)
            .map(|shard| (first + shard) % SHARDS)
            .filter(|shard| held.tokens.contains_key(shard))
            .filter(|shard| room.contains_key(&partition_of(*shard, partitions)))
            .collect()
    }

    /// The next read begins behind the shard in which this one was cut.
    fn end_turn(&self, order: &[i16], rows: &[DueRow], batch: usize) {
        let (fresh, again): (Vec<&DueRow>, Vec<&DueRow>) =
            rows.iter().partition(|row| row.attempt == 0);
        let cut = [fresh, again].into_iter().find(|page| page.len() >= batch);
        let Some(page) = cut else { return };
        let read: BTreeSet<i16> = page.iter().map(|row| row.shard).collect();
        if let Some(last) = order.iter().rev().find(|shard| read.contains(shard)) {
            self.first.store((last + 1) % SHARDS, Ordering::Relaxed);
        }
    }

    /// What the broker has answered. Waits for up to `patience`, but not for partitions that gave trouble before.
    async fn finished(&self, under_way: &mut UnderWay, patience: Duration) -> Vec<PartitionSend> {
        let (deadline, mut done) = (Instant::now() + patience, Vec::new());
        let waited_for = |under_way: &UnderWay| {
            under_way.partitions.iter().any(|partition| !self.backoff.is_troubled(*partition))
        };
        loop {
            let sent = match under_way.done.try_recv() {
                Ok(sent) => sent,
                Err(_) if waited_for(under_way) => {
                    match timeout_at(deadline, under_way.done.recv()).await {
                        Ok(Some(sent)) => sent,
                        _ => break,
                    }
                }
                Err(_) => break,
            };
            under_way.partitions.remove(&sent.partition);
            done.push(sent);
        }
        done
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

/// The transactions whose events the table has; `None`: all. Reads come one after the other, so what earlier ones saw
/// had ended before the snapshot that the log is followed from.
fn tables_share(conn: &mut Conn, log: &LogFeed) -> QueryResult<Option<Ended>> {
    match log.of_the_table() {
        TablesShare::All => Ok(None),
        TablesShare::Of(ended) => Ok(Some(ended)),
        TablesShare::Last(session) => {
            let ended = store::ended(conn)?;
            Ok(ended.filter(|ended| log.follow(session, ended)))
        }
    }
}

/// Those of `reads` of which `rows` hold all that was never sent: neither the shard's own page nor that of all was cut.
fn whole(reads: &[ShardRead], rows: &[DueRow], batch: usize) -> BTreeSet<i16> {
    let mut found: BTreeMap<i16, i64> = BTreeMap::new();
    rows.iter()
        .filter(|row| row.attempt == 0)
        .for_each(|row| *found.entry(row.shard).or_default() += 1);
    let is_cut = found.values().sum::<i64>() >= i64::try_from(batch).unwrap_or(i64::MAX);
    let last = reads.iter().rposition(|read| found.contains_key(&read.shard));
    let read_to_end = if is_cut { last.unwrap_or(0) } else { reads.len() };
    let own = |read: &&ShardRead| found.get(&read.shard).is_none_or(|found| *found < read.limit);
    reads.iter().take(read_to_end).filter(own).map(|read| read.shard).collect()
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
