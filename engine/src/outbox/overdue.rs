//! What nobody reports: events that the consumer passed by, and partitions that give no answers at all.
//!
//! An event is overdue when its consumer has answered something that lies behind it in the same partition, by the
//! broker's offsets, and has had time for the answer to this one since. Where nothing is answered, nothing is overdue:
//! the partition is silent, and only its oldest event is sent again, at growing intervals, so that no outage costs any
//! event its attempts.

use std::collections::BTreeSet;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::ids::EventId;
use common::retry::Backoff;
use diesel::QueryResult;

use super::advance::{SUPERSEDED, advance, advance_asked};
use super::pause::{self, Paused};
use super::relay::Relay;
use super::state::{Policy, Trigger};
use super::store::{self, AskedOf, Silent};
use super::update::Update;
use crate::alerts::{self, AlertKind, NewAlert, SilentPartitions};
use crate::consumers::{Consumer, Consumers};

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
    /// The service that the settings name; further ones are in the registry.
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
    /// Partitions in which a consumer gives no answers.
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
        let latest = now.latest(self.policy.backoff.max);
        let ahead =
            self.db.read(move |conn| Ok::<_, DbError>(store::any_ahead(conn, now, latest)?));
        let any_ahead = ahead.await?;
        self.db
            .write(move |conn| {
                if any_ahead {
                    store::set_right(conn, now, latest)?;
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
            .write_by_index::<_, DbError>(move |conn| {
                let consumers = Consumers::load(conn, &monitor.consumer)?;
                let updates = monitor.overdue_in(conn, &consumers)?;
                let (env, policy) = (&monitor.env, &monitor.policy);
                Ok(advance_asked(conn, env, policy, Some(&consumers), updates)?)
            })
            .await?;
        done.log_exhausted();
        Ok((done.again + done.exhausted, done.exhausted))
    }

    fn overdue_in(&self, conn: &mut Conn, consumers: &Consumers) -> QueryResult<Vec<Update>> {
        let now = self.env.now();
        let sent = now.before(self.ack_timeout);
        let unplaced = now.before(self.ack_timeout * UNPLACED);
        let mut updates: Vec<Update> = Vec::new();
        for consumer in consumers.required() {
            let ids = store::overdue(conn, &self.asked_of(consumer), sent, unplaced, BATCH)?;
            updates.extend(ids.into_iter().map(|id| Update::overdue(id, &consumer.name)));
        }
        Ok(updates)
    }

    fn asked_of<'a>(&'a self, consumer: &'a Consumer) -> AskedOf<'a> {
        AskedOf { topic: &self.topic, consumer: &consumer.name, since: consumer.since_id }
    }

    /// Closes the gap between two transactions, one in which an event gave up while the other, which could not see
    /// that yet, settled a newer version of its key.
    pub(super) async fn resolve_overtaken(&self) -> Result<(), DbError> {
        let since = self.env.now().before(OVERTAKEN_WITHIN);
        let read = move |conn: &mut Conn| overtaken(conn, since).map_err(DbError::from);
        let overtaken = self.db.read(read).await?;
        for ids in overtaken.chunks(SUPERSEDED) {
            let (monitor, ids) = (self.clone(), ids.to_vec());
            let resolved = self.db.write_by_index::<_, DbError>(move |conn| {
                let superseded = |id| Update::new(id, Trigger::Superseded);
                let updates = ids.into_iter().map(superseded).collect();
                Ok(advance(conn, &monitor.env, &monitor.policy, updates)?)
            });
            resolved.await?;
        }
        Ok(())
    }

    /// Finds the silent partitions, keeps their episodes, and returns their number and what to probe them with.
    pub(super) async fn take_silent(&self) -> Result<(usize, Vec<EventId>), DbError> {
        let monitor = self.clone();
        self.db.write(move |conn| Ok(monitor.take_silent_in(conn)?)).await
    }

    fn take_silent_in(&self, conn: &mut Conn) -> QueryResult<(usize, Vec<EventId>)> {
        let consumers = Consumers::load(conn, &self.consumer)?;
        let paused = pause::all(conn)?;
        let (mut silent, mut probes) = (0, BTreeSet::new());
        for consumer in consumers.required() {
            silent += self.take_silence_of(conn, &self.asked_of(consumer), &paused, &mut probes)?;
        }
        silent += self.take_watched(conn, &consumers)?;
        Ok((silent, probes.into_iter().collect()))
    }

    /// The same of one consumer that owes answers; one probe serves all that owe one to its event.
    fn take_silence_of(
        &self,
        conn: &mut Conn,
        of: &AskedOf<'_>,
        paused: &Paused,
        probes: &mut BTreeSet<EventId>,
    ) -> QueryResult<usize> {
        let now = self.env.now();
        let before = now.before(self.ack_timeout);
        let silent = store::silent(conn, of, before)?;
        let under_way = store::any_silence(conn, of)?;
        let mut noted = false;
        for partition in silent.iter().filter(|p| p.probe_due.is_none_or(|due| due <= now)) {
            let round = u32::try_from(partition.probes).unwrap_or(0) + 1;
            let next = now.after(self.probes.delay(round, self.env.chance()));
            if !store::note_silence(conn, (of, before), partition, now, next)? {
                continue;
            }
            noted = true;
            // What is paused is not sent again either; that the partition is silent is told all the same.
            if !paused.everything {
                probes.extend(store::oldest_sent(conn, of, partition.partition, &paused.keys)?);
            }
        }
        if !under_way && silent.is_empty() {
            self.answers_again(conn, of.consumer)?;
        } else if !under_way
            && noted
            && !alerts::is_open(conn, AlertKind::Silent, self.key_of(of.consumer))?
        {
            alerts::raise(conn, now, self.alert(of.consumer, &silent))?;
        }
        Ok(silent.len())
    }

    /// Watched consumers get no probes, since nothing waits for them; that they answer nothing is told.
    fn take_watched(&self, conn: &mut Conn, consumers: &Consumers) -> QueryResult<usize> {
        let watched = consumers.active().iter().filter(|one| !one.required);
        let names: Vec<&str> = watched.map(|one| one.name.as_str()).collect();
        if names.is_empty() {
            return Ok(0);
        }
        let now = self.env.now();
        let before = now.before(self.ack_timeout);
        let silent =
            store::watched_silent(conn, &self.topic, &names, (now, before, self.ack_grace))?;
        for name in names {
            let own: Vec<_> = silent.iter().filter(|(who, ..)| who == name).collect();
            let Some(since) = own.iter().map(|(.., since)| *since).min() else {
                self.answers_again(conn, name)?;
                continue;
            };
            if !alerts::is_open(conn, AlertKind::Silent, self.key_of(name))? {
                let partitions: Vec<i32> = own.iter().map(|(_, partition, _)| *partition).collect();
                alerts::raise(conn, now, self.alert_of(name, &partitions, since, None))?;
            }
        }
        Ok(silent.len())
    }

    fn answers_again(&self, conn: &mut Conn, consumer: &str) -> QueryResult<()> {
        let key = self.key_of(consumer);
        alerts::close_about(conn, self.env.now(), AlertKind::Silent, key, "answers come again")?;
        Ok(())
    }

    fn alert(&self, consumer: &str, silent: &[Silent]) -> NewAlert {
        let partitions: Vec<i32> = silent.iter().map(|partition| partition.partition).collect();
        let since = silent.iter().map(|partition| partition.waiting_since).min();
        let waiting = silent.iter().map(|partition| partition.waiting).sum();
        self.alert_of(consumer, &partitions, since.unwrap_or_default(), Some(waiting))
    }

    fn alert_of(
        &self,
        consumer: &str,
        partitions: &[i32],
        since: Timestamp,
        waiting: Option<i64>,
    ) -> NewAlert {
        let topic = &self.topic;
        NewAlert::silent(&SilentPartitions { topic, partitions, consumer, since, waiting })
            .about_key(self.key_of(consumer))
    }

    /// What tells apart the alerts about consumers; those about the one of the settings have none.
    fn key_of<'a>(&self, consumer: &'a str) -> Option<&'a str> {
        (consumer != self.consumer).then_some(consumer)
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
