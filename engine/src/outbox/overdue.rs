//! What nobody reports: events that the consumer passed by, and partitions that give no answers at all.
//!
//! An event is overdue when its consumer has answered something that lies behind it in the same partition, by the
//! broker's offsets, and has had time for the answer to this one since. Where nothing is answered, nothing is overdue:
//! the partition is silent, and only its oldest event is sent again, at growing intervals, so that no outage costs any
//! event its attempts.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::ids::EventId;
use common::retry::Backoff;
use diesel::QueryResult;

use super::advance::{SUPERSEDED, advance};
use super::pause;
use super::relay::Relay;
use super::state::{Policy, Trigger};
use super::store::{self, Silent};
use super::update::Update;
use crate::alerts::{self, AlertKind, NewAlert, SilentPartitions};

/// Looks after what was sent.
#[derive(Clone)]
pub struct OverdueMonitor {
    /// The service's database.
    pub db: Db,
    /// Time and chance.
    pub env: Env,
    /// The rules' numbers.
    pub policy: Policy,
    /// The topic that events go to.
    pub topic: String,
    /// The service that should answer.
    pub consumer: String,
    /// How long an answer may take.
    pub ack_timeout: Duration,
    /// How long an event's answer may come after that of another one that lies behind it.
    pub ack_grace: Duration,
    /// Pauses between probes of a silent partition.
    pub probes: Backoff,
}

/// What one look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverdueOutcome {
    /// Events that were passed by: PENDING again, or EXHAUSTED.
    pub overdue: usize,
    /// Of those, the ones that are EXHAUSTED now.
    pub exhausted: usize,
    /// Partitions that give no answers.
    pub silent: usize,
    /// Probes that were sent.
    pub probed: usize,
}

/// Overdue events that one transaction takes at the most.
const BATCH: i64 = 1_000;

/// How many times longer than others an event waits of which it is not known where it lies.
const UNPLACED: u32 = 20;

/// How long two transactions may overlap; older alerts were seen by every later settlement.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(120);

impl OverdueMonitor {
    /// One look.
    ///
    /// # Errors
    /// When the database fails; nothing is half done.
    pub async fn run_once(&self, relay: &Relay) -> Result<OverdueOutcome, DbError> {
        let mut outcome = OverdueOutcome::default();
        self.look().await?;
        loop {
            let (overdue, exhausted) = self.take_overdue().await?;
            outcome.overdue += overdue;
            outcome.exhausted += exhausted;
            if overdue < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                break;
            }
        }
        self.resolve_overtaken().await?;
        let (silent, probes) = self.take_silent().await?;
        outcome.silent = silent;
        for event in probes {
            outcome.probed += usize::from(relay.probe(event).await?);
        }
        Ok(outcome)
    }

    pub(super) async fn look(&self) -> Result<(), DbError> {
        let (monitor, now) = (self.clone(), self.env.now());
        let ahead = self.db.read(move |conn| store::any_ahead(conn, now).map_err(DbError::from));
        let any_ahead = ahead.await?;
        self.db
            .write(move |conn| {
                if any_ahead {
                    store::set_right(conn, now)?;
                }
                let next_probe = now.after(monitor.probes.max);
                Ok(store::look(conn, &monitor.topic, now, monitor.ack_grace, next_probe)?)
            })
            .await
    }

    pub(super) async fn take_overdue(&self) -> Result<(usize, usize), DbError> {
        let monitor = self.clone();
        let done = self
            .db
            .write::<_, DbError>(move |conn| {
                conn.plan_by_index()?;
                let now = monitor.env.now();
                let sent = now.before(monitor.ack_timeout);
                let unplaced = now.before(monitor.ack_timeout * UNPLACED);
                let ids = store::overdue(conn, &monitor.topic, sent, unplaced, BATCH)?;
                let overdue = |id| Update::new(id, Trigger::Overdue);
                let updates = ids.into_iter().map(overdue).collect();
                Ok(advance(conn, &monitor.env, &monitor.policy, updates)?)
            })
            .await?;
        done.log_exhausted();
        Ok((done.again + done.exhausted, done.exhausted))
    }

    /// Closes the gap between two transactions, one in which an event gave up while the other, which could not see
    /// that yet, settled a newer version of its key.
    pub(super) async fn resolve_overtaken(&self) -> Result<(), DbError> {
        let since = self.env.now().before(OVERTAKEN_WITHIN);
        let read = move |conn: &mut Conn| overtaken(conn, since).map_err(DbError::from);
        let overtaken = self.db.read(read).await?;
        for ids in overtaken.chunks(SUPERSEDED) {
            let (monitor, ids) = (self.clone(), ids.to_vec());
            let resolved = self.db.write::<_, DbError>(move |conn| {
                conn.plan_by_index()?;
                let superseded = |id| Update::new(id, Trigger::Superseded);
                let updates = ids.into_iter().map(superseded).collect();
                Ok(advance(conn, &monitor.env, &monitor.policy, updates)?)
            });
            resolved.await?;
        }
        Ok(())
    }

    /// Finds the silent partitions, keeps their episode, and returns their number and what to probe them with.
    pub(super) async fn take_silent(&self) -> Result<(usize, Vec<EventId>), DbError> {
        let monitor = self.clone();
        self.db.write(move |conn| Ok(monitor.take_silent_in(conn)?)).await
    }

    fn take_silent_in(&self, conn: &mut Conn) -> QueryResult<(usize, Vec<EventId>)> {
        let now = self.env.now();
        let before = now.before(self.ack_timeout);
        let silent = store::silent(conn, &self.topic, before)?;
        let under_way = store::any_silence(conn, &self.topic)?;
        let paused = pause::all(conn)?;
        let (mut noted, mut probes) = (false, Vec::new());
        for partition in silent.iter().filter(|p| p.probe_due.is_none_or(|due| due <= now)) {
            let round = u32::try_from(partition.probes).unwrap_or(0) + 1;
            let next = now.after(self.probes.delay(round, self.env.chance()));
            if !store::note_silence(conn, (&self.topic, before), partition, now, next)? {
                continue;
            }
            noted = true;
            // What is paused is not sent again either; that the partition is silent is told all the same.
            if !paused.everything {
                probes.extend(store::oldest_sent(conn, partition.partition, &paused.keys)?);
            }
        }
        if !under_way && silent.is_empty() {
            alerts::close_kind(conn, now, AlertKind::Silent, None, "answers come again")?;
        } else if !under_way && noted {
            alerts::raise(conn, now, self.alert(&silent))?;
        }
        Ok((silent.len(), probes))
    }

    fn alert(&self, silent: &[Silent]) -> NewAlert {
        let partitions: Vec<i32> = silent.iter().map(|partition| partition.partition).collect();
        NewAlert::silent(&SilentPartitions {
            topic: &self.topic,
            partitions: &partitions,
            consumer: &self.consumer,
            since: silent.iter().map(|partition| partition.waiting_since).min().unwrap_or_default(),
            waiting: silent.iter().map(|partition| partition.waiting).sum(),
        })
    }
}

/// Events that gave up since `since` although a newer version of their key is PROCESSED; only read, so that no writer
/// waits for it.
fn overtaken(conn: &mut Conn, since: Timestamp) -> QueryResult<Vec<EventId>> {
    let gave_up = store::gave_up_since(conn, since)?;
    let keys = gave_up.iter().map(|event| event.key.clone()).collect();
    let newest = store::newest_settled(conn, &keys)?;
    let is_overtaken = |event: &store::GaveUp| {
        newest.get(&event.key).is_some_and(|newest| *newest > (event.epoch, event.version))
    };
    Ok(gave_up.iter().filter(|event| is_overtaken(event)).map(|event| event.event_id).collect())
}
