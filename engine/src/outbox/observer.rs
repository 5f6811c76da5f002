//! What another program sends for this service, seen where it arrives: SENT stays a fact that the broker tells.
//!
//! An observer needs no lease and no fence. What it writes down is true whoever does so and however late, since a message
//! that lies in its partition stays there; and an event is marked by compare-and-set, so a message that is seen twice, by
//! whichever instances, marks it once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Db, DbError};
use common::env::Env;
use common::ids::EventId;

use super::first_attempts::FirstAttempts;
use super::noting::OVERLAP;
use super::offsets::{KnownOffsets, offsets_of};
use super::shard_of;
use super::store::{self, Confirmation};
use crate::counters;
use crate::kafka::{Record, sender_of};

/// Marks SENT what it sees on the topic of the service's events.
pub struct Observer {
    db: Db,
    env: Env,
    first_attempts: FirstAttempts,
    /// As messages name the service.
    source: String,
    topic: String,
    offsets: KnownOffsets,
}

/// Whether a step was given the same messages before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As they came from the topic.
    First,
    /// Of events that were not seen then: where they lie says nothing new of their partitions.
    Again,
}

/// What one step saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Events that are SENT now.
    pub sent: usize,
    /// Events whose answer came before their message was seen: where that lies is noted now.
    pub placed: usize,
    /// First attempts that were noted before, such as those that were sent twice.
    pub repeated: usize,
    /// Further attempts, which the relay notes by itself.
    pub further: usize,
    /// Messages of events whose commit may not be seen yet, to be given to [`Look::Again`].
    pub unseen: Vec<Record>,
    /// Events of this service that its database does not know, or not any more.
    pub unknown: usize,
    /// Messages of others, or that are no events.
    pub foreign: usize,
    /// How long after its commit each event that is SENT now was sent.
    pub first_sent: Vec<Duration>,
}

impl Observed {
    /// What was seen in all, where what was not seen was looked at again.
    #[must_use]
    pub fn then(mut self, again: Self) -> Self {
        self.first_sent.extend(again.first_sent);
        Self {
            sent: self.sent + again.sent,
            placed: self.placed + again.placed,
            repeated: self.repeated + again.repeated,
            further: self.further + again.further,
            unseen: again.unseen,
            unknown: self.unknown + again.unknown,
            foreign: self.foreign + again.foreign,
            first_sent: self.first_sent,
        }
    }
}

impl Observer {
    /// One that looks for the events of `service` on `topic`; it has seen nothing yet.
    pub fn new(
        db: &Db,
        env: &Env,
        first_attempts: FirstAttempts,
        service: &str,
        topic: &str,
    ) -> Self {
        Self {
            db: db.clone(),
            env: env.clone(),
            first_attempts,
            source: format!("/{service}"),
            topic: topic.to_owned(),
            offsets: KnownOffsets::default(),
        }
    }

    /// Writes down what `records` of the topic prove.
    ///
    /// # Errors
    /// When the database fails; the same records can be given again.
    pub async fn run_once(&self, records: &[Record], look: Look) -> Result<Observed, DbError> {
        let mut observed = Observed::default();
        let seen = self.first_attempts(records, &mut observed);
        if seen.is_empty() {
            return Ok(observed);
        }
        self.offsets.learn(&self.db, &self.topic).await?;
        let marked = self.mark(&seen, look).await?;
        let (marked, rest): (Vec<Confirmation>, Vec<Confirmation>) =
            seen.into_iter().partition(|sent| marked.contains(&sent.id));
        observed.sent = marked.len();
        observed.first_sent =
            marked.iter().map(|sent| sent.sent_us.since(sent.id.made_at())).collect();
        let unseen = self.place(rest, &mut observed).await?;
        if !unseen.is_empty() {
            observed.unseen = messages_of(records, &unseen);
        }
        Ok(observed)
    }

    /// The first attempts among `records`, each event once, where it came first; sorted by id.
    fn first_attempts(&self, records: &[Record], observed: &mut Observed) -> Vec<Confirmation> {
        let now = self.env.now();
        let mut seen: Vec<Confirmation> = Vec::with_capacity(records.len());
        for record in records {
            match sender_of(record).filter(|sender| sender.source == self.source) {
                Some(sender) if sender.attempt == 1 => {
                    seen.push(confirmation(record, sender.id, now));
                }
                Some(_) => observed.further += 1,
                None => observed.foreign += 1,
            }
        }
        seen.sort_by_key(|sent| sent.id);
        let all = seen.len();
        seen.dedup_by_key(|sent| sent.id);
        observed.repeated += all - seen.len();
        seen
    }

    /// PENDING becomes SENT; returns which did.
    async fn mark(&self, seen: &[Confirmation], look: Look) -> Result<HashSet<EventId>, DbError> {
        let (sent, topic, now) = (seen.to_vec(), self.topic.clone(), self.env.now());
        let offsets = match look {
            Look::First => offsets_of(seen),
            Look::Again => BTreeMap::new(),
        };
        let anew = self.offsets.begun_anew(&offsets);
        let first = seen.iter().map(|sent| sent.sent_us).min();
        // The relay may have sent, and consumers answered, what lies behind these before they are seen.
        let before = first.unwrap_or(now).before(OVERLAP);
        let marked = self
            .db
            .write_by_index::<_, DbError>(move |conn| {
                store::begin_anew(conn, &topic, &anew, before, before)?;
                Ok(store::mark_sent(conn, &sent, now)?)
            })
            .await?;
        self.offsets.remember(&offsets);
        Ok(marked)
    }

    /// Notes of events that are answered already where their messages lie, and counts those that are not there; returns
    /// which of these may come.
    ///
    /// In a transaction of its own: the one that marks holds rows of another place already.
    async fn place(
        &self,
        rest: Vec<Confirmation>,
        observed: &mut Observed,
    ) -> Result<BTreeSet<EventId>, DbError> {
        if rest.is_empty() {
            return Ok(BTreeSet::new());
        }
        let now = self.env.now();
        let (placed, known, unknown) = self
            .db
            .write_by_index::<_, DbError>(move |conn| {
                let placed = store::place(conn, &rest)?;
                let ids: BTreeSet<EventId> = rest.iter().map(|sent| sent.id).collect();
                let others: Vec<EventId> = ids.difference(&placed).copied().collect();
                if !placed.is_empty() {
                    counters::add(conn, counters::SENT, now, placed.len())?;
                }
                let known: BTreeSet<EventId> =
                    store::facts_of(conn, &others)?.into_iter().map(|facts| facts.id).collect();
                let unknown: Vec<EventId> =
                    others.into_iter().filter(|id| !known.contains(id)).collect();
                Ok((placed.len(), known.len(), unknown))
            })
            .await?;
        observed.placed = placed;
        observed.repeated += known;
        let (unseen, unknown): (BTreeSet<EventId>, BTreeSet<EventId>) =
            unknown.into_iter().partition(|id| self.first_attempts.may_be_unseen(*id, now));
        observed.unknown = unknown.len();
        Ok(unseen)
    }
}

/// Those of `records` that are first attempts of `events`.
fn messages_of(records: &[Record], events: &BTreeSet<EventId>) -> Vec<Record> {
    let is_of = |record: &&Record| {
        sender_of(record).is_some_and(|sender| sender.attempt == 1 && events.contains(&sender.id))
    };
    records.iter().filter(is_of).cloned().collect()
}

/// The first attempt of `id` lies where `record` does.
fn confirmation(record: &Record, id: EventId, now: Timestamp) -> Confirmation {
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    Confirmation {
        id,
        shard: shard_of(&key.unwrap_or_default()),
        attempt: 1,
        partition: record.partition,
        offset: Some(record.offset),
        // Another machine's clock may run ahead.
        sent_us: record.timestamp.unwrap_or(now).min(now),
    }
}
