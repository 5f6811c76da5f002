//! The last step of the loop: the consumer's answers settle the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::db::{Conn, Db};
use common::env::Env;
use common::event::EventFacts;
use common::ids::EventId;
use common::telemetry::SignedMessage;
use diesel::result::Error;

use super::FirstAttempts;
use super::advance::{SUPERSEDED, advance, advance_asked};
use super::state::{Policy, Trigger};
use super::store;
use super::update::{Advanced, Update};
use super::watched;
use crate::alerts::{self, NewAlert};
use crate::batch::{Attempt, BatchError};
use crate::consumers::{Consumers, Voice};
use crate::counters;
use crate::dead_letters::{self, DeadLetter};
use crate::kafka::{Ack, AckBatch, Record, SignatureChecks, Signing, Verdict};
use crate::restored::{self, ReadPositions};
use crate::retention::may_be_forgotten;
use crate::verify::{Owner, versions_of};

/// Turns answers into states.
#[derive(Clone)]
pub struct Settler {
    /// Time and chance.
    pub env: Env,
    /// The rules' numbers.
    pub policy: Policy,
    /// The topic whose partitions the answers speak of.
    pub topic: String,
    /// The service that the settings name; further ones are in the registry.
    pub consumer: String,
    /// How far the database has taken the topic of the answers.
    pub positions: ReadPositions,
    /// What owns the states that snapshots bring, where this service does.
    pub owner: Option<Arc<dyn Owner>>,
    /// Who sends events for the first time: another program may do so before their commits are seen here.
    pub first_attempts: FirstAttempts,
    /// By what answers are believed.
    pub signing: Signing,
}

/// What a batch of answers did.
#[derive(Debug, Default)]
pub struct Settlement {
    /// The transitions.
    pub advanced: Advanced,
    /// Answers that came again after the event was PROCESSED.
    pub repeated: usize,
    /// Answers to events that this service never sent.
    pub unknown: usize,
    /// Answers of somebody who was not asked.
    pub foreign: usize,
    /// Messages that were not answers at all.
    pub unreadable: usize,
    /// Those of them that are no answers as a whole, by their places in the batch.
    pub(super) letters: Vec<usize>,
    /// Answers to events whose commit may not be seen yet, as messages of their own: they count once these are given again.
    pub unseen: Vec<Record>,
    /// What the signatures of the messages came to. What was refused for its own is read no further.
    pub signatures: SignatureChecks,
}

/// How far clocks may be apart: an id of a later moment was not made by any instance of this service.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Answers that one statement takes, whatever a message holds: below SQLite's limit of bind parameters.
pub(crate) const ACKS_AT_ONCE: usize = 4_000;

impl Settler {
    /// The same, for which an event that is not there never comes.
    pub(crate) fn without_waiting(&self) -> Self {
        Self { first_attempts: FirstAttempts::Ours, ..self.clone() }
    }

    /// Settles what `records` of the ack topic say, in one transaction.
    ///
    /// `repeats`: whether they have failed several times, so that single answers may be to blame; but only where others
    /// pass.
    ///
    /// # Errors
    /// When the database fails; the same records can be given again.
    pub async fn settle(
        &self,
        db: &Db,
        records: Vec<Record>,
        repeats: bool,
    ) -> Result<Settlement, BatchError> {
        let batch = Arc::new(records);
        let settled = Attempt::each(repeats, |attempt| {
            let (settler, records) = (self.clone(), Arc::clone(&batch));
            db.write_by_index(move |conn| {
                let settlement = settler.settle_in(conn, &records, attempt)?;
                // Last, since other batches of the same partitions wait for it.
                settler.positions.note(conn, settler.env.now(), &records)?;
                Ok(settlement)
            })
        });
        let settlement = settled.await?;
        self.positions.took(&batch);
        let letters = settlement.letters.iter().filter_map(|place| batch.get(*place));
        for Record { topic, partition, offset, .. } in letters {
            tracing::warn!(topic, partition, offset, "acks can't be read: a dead letter");
        }
        settlement.advanced.log_exhausted();
        // What is settled is settled; these only stay open until a newer version of their key comes.
        let resolved = self.resolve_superseded(db, &settlement.advanced.superseding).await;
        if let Err(error) = resolved {
            tracing::warn!(%error, "some superseded events could not be resolved");
        }
        Ok(settlement)
    }

    /// Resolves, in steps of limited size, what `newer` snapshots make superfluous.
    async fn resolve_superseded(
        &self,
        db: &Db,
        newer: &[(String, i64, i64)],
    ) -> Result<(), BatchError> {
        if newer.is_empty() {
            return Ok(());
        }
        let mut last = Vec::new();
        loop {
            let (settler, newer) = (self.clone(), newer.to_vec());
            let resolved = db.write_by_index::<_, BatchError>(move |conn| {
                let older = alerts::superseded_by(conn, &newer, SUPERSEDED)?;
                let superseded = |id: &EventId| Update::new(*id, Trigger::Superseded);
                let updates = older.iter().map(superseded).collect();
                advance(conn, &settler.env, &settler.policy, updates)?;
                Ok(older)
            });
            let resolved = resolved.await?;
            // The same ones again are such that no step resolves.
            if resolved.len() < SUPERSEDED || resolved == last {
                return Ok(());
            }
            last = resolved;
        }
    }

    fn settle_in(
        &self,
        conn: &mut Conn,
        records: &[Record],
        attempt: Attempt,
    ) -> Result<Settlement, BatchError> {
        let mut total = Settlement::default();
        let mut answers: Vec<(&Record, Ack)> = Vec::new();
        for (place, record) in records.iter().enumerate() {
            // Counted and told, and not kept: whoever may write to the topic could fill the database.
            if self.signing.check(SignedMessage::Ack, record, &mut total.signatures).is_err() {
                continue;
            }
            match read(record) {
                Ok(batch) => answers.extend(batch.acks.into_iter().map(|ack| (record, ack))),
                Err(reason) => {
                    total.letters.push(place);
                    dead_letters::store(conn, &DeadLetter::of(record, &reason, self.env.now()))?;
                    total.unreadable += 1;
                }
            }
        }
        let answers = by_event(answers);
        let consumers = Consumers::load(conn, &self.consumer)?;
        let voice = |ack: &Ack| consumers.voice(&ack.consumer, ack.event_id);
        total.foreign = answers.iter().filter(|(_, ack)| voice(ack) == Voice::Foreign).count();
        let (watched, mut answers): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, ack)| voice(ack) == Voice::Watched);
        total.add(self.note_watched(conn, &watched, attempt)?);
        answers.retain(|(_, ack)| voice(ack) == Voice::Counts);
        if answers.is_empty() {
            return Ok(total);
        }
        let (mut aside, mut by_data, mut why) = (0, true, String::new());
        for answers in answers.chunks(ACKS_AT_ONCE) {
            let parts = attempt.run(
                conn,
                answers,
                &mut |conn, answers| {
                    self.settle_acks(conn, &consumers, answers).map(|done| vec![done])
                },
                &mut |conn, (record, ack), error: BatchError| {
                    aside += 1;
                    by_data &= error.fault().is_of_data();
                    why = error.to_string();
                    self.set_aside(conn, record, ack, &error)
                },
            )?;
            parts.into_iter().for_each(|part| total.add(part));
        }
        // Where nothing passes, only data is suspected, and only after several tries.
        if aside == answers.len() && !(by_data && attempt.repeats()) {
            return Err(BatchError::World(why));
        }
        Ok(total)
    }

    /// Notes what watched consumers say; one answer that can't be noted keeps nothing from being settled.
    fn note_watched(
        &self,
        conn: &mut Conn,
        answers: &[(&Record, Ack)],
        attempt: Attempt,
    ) -> Result<Settlement, BatchError> {
        let mut total = Settlement::default();
        for answers in answers.chunks(ACKS_AT_ONCE) {
            let parts = attempt.run(
                conn,
                answers,
                &mut |conn, answers: &[(&Record, Ack)]| {
                    let acks: Vec<&Ack> = answers.iter().map(|(_, ack)| ack).collect();
                    watched::note(conn, &self.topic, &acks, self.env.now())?;
                    Ok(vec![Settlement::default()])
                },
                &mut |conn, (record, ack), error: BatchError| {
                    self.set_aside(conn, record, ack, &error)
                },
            )?;
            parts.into_iter().for_each(|part| total.add(part));
        }
        Ok(total)
    }

    /// Keeps one answer that can't be settled as a dead letter of its own, so that those beside it count.
    fn set_aside(
        &self,
        conn: &mut Conn,
        record: &Record,
        ack: &Ack,
        error: &BatchError,
    ) -> Result<Settlement, BatchError> {
        let letter = self.with_acks(record, vec![ack.clone()])?;
        dead_letters::store(conn, &DeadLetter::of(&letter, &error.to_string(), self.env.now()))?;
        Ok(Settlement { unreadable: 1, ..Settlement::default() })
    }

    fn settle_acks(
        &self,
        conn: &mut Conn,
        consumers: &Consumers,
        answers: &[(&Record, Ack)],
    ) -> Result<Settlement, BatchError> {
        let mut done = Settlement::default();
        let acks: Vec<Ack> = answers.iter().map(|(_, ack)| ack.clone()).collect();
        let ahead = ahead(&acks);
        let updates = acks.into_iter().map(Update::answered).collect();
        done.advanced = advance_asked(conn, &self.env, &self.policy, Some(consumers), updates)?;
        let answered = std::mem::take(&mut done.advanced.answered);
        store::mark_answered(conn, &self.topic, &answered, self.env.now())?;
        let unseen = self.count_unmatched_acks(conn, &mut done)?;
        done.unseen = self.only(answers, &unseen)?;
        self.alert_on_version_above_source(conn, &ahead)?;
        let settled = done.advanced.settled.len();
        if settled > 0 {
            counters::add(conn, counters::PROCESSED, self.env.now(), settled)?;
        }
        Ok(done)
    }

    /// Counts answers to what is not open; returns the events of which the commit may not be seen yet.
    fn count_unmatched_acks(
        &self,
        conn: &mut Conn,
        done: &mut Settlement,
    ) -> Result<BTreeSet<EventId>, BatchError> {
        let unmatched = std::mem::take(&mut done.advanced.not_open);
        if unmatched.is_empty() {
            return Ok(BTreeSet::new());
        }
        let now = self.env.now();
        let settled = store::settled_among(conn, &unmatched)?;
        let (repeated, missing): (Vec<EventId>, Vec<EventId>) =
            unmatched.into_iter().partition(|id| settled.contains(id));
        let (unseen, unknown): (Vec<EventId>, Vec<EventId>) =
            missing.into_iter().partition(|id| self.first_attempts.may_be_unseen(*id, now));
        (done.repeated, done.unknown) = (repeated.len(), unknown.len());
        let soon = EventId::first_at(now.after(SKEW));
        let is_ours = |id: &&EventId| id.uuid().get_version_num() == 7 && **id < soon;
        self.tell_of_later(conn, unknown.iter().filter(is_ours).max().copied())?;
        Ok(unseen.into_iter().collect())
    }

    /// An answer to an event that is later than all that this service knows of, and too young to be forgotten: the
    /// database that sent it is not this one.
    fn tell_of_later(&self, conn: &mut Conn, unknown: Option<EventId>) -> Result<(), BatchError> {
        let now = self.env.now();
        let Some(unknown) = unknown.filter(|id| !may_be_forgotten(*id, now)) else {
            return Ok(());
        };
        let newest = store::newest(conn)?;
        if newest.is_some_and(|(id, _)| id >= unknown) {
            return Ok(());
        }
        let detail = format!(
            "{} has answered the event {unknown}, which is later than all that this database knows of",
            self.consumer
        );
        let since = newest.map(|(_, created)| created);
        restored::found(conn, now, self.positions.service(), since, &detail)?;
        Ok(())
    }

    /// A copy that is ahead of its source holds versions of a database that no longer exists.
    fn alert_on_version_above_source(
        &self,
        conn: &mut Conn,
        ahead: &[(EventId, i64)],
    ) -> Result<(), BatchError> {
        if ahead.is_empty() {
            return Ok(());
        }
        let above: BTreeMap<EventId, i64> = store::above_source(conn, ahead)?.into_iter().collect();
        if above.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = above.keys().copied().collect();
        let events = store::facts_of(conn, &ids)?;
        let owned = self.owned_versions(conn, events.iter().map(|event| event.key.clone()))?;
        let alert = |event: EventFacts| {
            let version = *above.get(&event.id)?;
            let is_known = owned.get(&event.key).is_some_and(|owned| *owned >= version);
            (!is_known).then(|| NewAlert::version_above_source(&event, version))
        };
        let alerts = events.into_iter().filter_map(alert).collect();
        alerts::raise_all(conn, self.env.now(), alerts)?;
        Ok(())
    }

    /// The answers to `events` alone, in a message for each that brought some.
    fn only(
        &self,
        answers: &[(&Record, Ack)],
        events: &BTreeSet<EventId>,
    ) -> Result<Vec<Record>, BatchError> {
        let mut messages: BTreeMap<(i32, i64), (&Record, Vec<Ack>)> = BTreeMap::new();
        for (record, ack) in answers.iter().filter(|(_, ack)| events.contains(&ack.event_id)) {
            let place = (record.partition, record.offset);
            messages.entry(place).or_insert((record, Vec::new())).1.push(ack.clone());
        }
        messages.into_values().map(|(record, acks)| self.with_acks(record, acks)).collect()
    }

    /// The message with these of its answers, which is believed if that was.
    fn with_acks(&self, record: &Record, acks: Vec<Ack>) -> Result<Record, BatchError> {
        let payload = serde_json::to_vec(&AckBatch { acks });
        let payload = payload.map_err(|error| Error::SerializationError(Box::new(error)))?;
        let part = Record { payload: Some(payload), ..record.clone() };
        Ok(self.signing.renew(record, part))
    }

    /// The versions of the states themselves: the events that brought them may be deleted, while older states that were
    /// sent again are kept.
    fn owned_versions(
        &self,
        conn: &mut Conn,
        keys: impl Iterator<Item = String>,
    ) -> Result<BTreeMap<String, i64>, BatchError> {
        let Some(owner) = &self.owner else { return Ok(BTreeMap::new()) };
        let keys: BTreeSet<String> = keys.collect();
        Ok(versions_of(&**owner, conn, &Vec::from_iter(keys))?)
    }
}

/// The same in the order in which events are locked, through all that one transaction settles: else two settlers could
/// wait for each other. Answers to one event stay as they came.
fn by_event<M>(mut answers: Vec<(M, Ack)>) -> Vec<(M, Ack)> {
    answers.sort_by_key(|(_, ack)| ack.event_id);
    answers
}

/// Superseded answers that name the version which the copy holds.
fn ahead(acks: &[Ack]) -> Vec<(EventId, i64)> {
    let superseded = acks.iter().filter(|ack| {
        ack.outcome == Verdict::Success && ack.detail.as_deref() == Some("superseded")
    });
    superseded.filter_map(|ack| ack.version.map(|version| (ack.event_id, version))).collect()
}

/// Whether a message of the ack topic can be read.
///
/// # Errors
/// Why not.
pub fn check_answers(record: &Record) -> Result<(), String> {
    read(record).map(drop)
}

fn read(record: &Record) -> Result<AckBatch, String> {
    let payload = record.payload.as_deref().ok_or("it has no data")?;
    let mut batch: AckBatch = serde_json::from_slice(payload)
        .map_err(|error| format!("it is not a batch of acks: {error}"))?;
    for ack in &mut batch.acks {
        ack.error = ack.error.take().map(|error| crate::kafka::cut_error(&error));
    }
    Ok(batch)
}

impl Settlement {
    fn add(&mut self, other: Self) {
        self.repeated += other.repeated;
        self.unknown += other.unknown;
        self.foreign += other.foreign;
        self.unreadable += other.unreadable;
        self.unseen.extend(other.unseen);
        let advanced = other.advanced;
        self.advanced.settled.extend(advanced.settled);
        self.advanced.traced.extend(advanced.traced);
        self.advanced.newly_exhausted.extend(advanced.newly_exhausted);
        self.advanced.exhausted += advanced.exhausted;
        self.advanced.again += advanced.again;
        advanced.next_due.into_iter().for_each(|due| self.advanced.note_due(due));
        self.advanced.superseding.extend(advanced.superseding);
        for (shard, (events, bytes)) in advanced.released {
            let released = self.advanced.released.entry(shard).or_default();
            released.0 += events;
            released.1 += bytes;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use stockloop_tests::fuzz::{self, Target};

    use super::*;

    fn message(payload: Vec<u8>) -> Record {
        Record { payload: Some(payload), ..Record::default() }
    }

    #[test]
    fn any_answers_are_read_or_refused() {
        fuzz::apart(Target::Acks, |input| match read(&message(input.bytes())) {
            Ok(batch) => assert_come_back(&batch),
            Err(reason) => {
                assert!(reason.starts_with("it is not a batch of acks: "), "{reason}");
            }
        });
    }

    fn assert_come_back(batch: &AckBatch) {
        let written = serde_json::to_vec(batch).unwrap();
        let again = read(&message(written.clone())).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), written);
        for ack in &batch.acks {
            // Whoever answers here writes a trace as W3C has it; others may write anything there.
            let ack = Ack { traceparent: None, ..ack.clone() };
            let length = serde_json::to_vec(&ack).unwrap().len();
            assert!(length <= ack.weight(), "{length} bytes are more than {}", ack.weight());
            let error = ack.error.as_deref().unwrap_or_default();
            assert!(error.len() <= 2_048 && !error.contains('\0'), "{error}");
            let bare = ack.clone().bare();
            assert!(bare.is_none_or(|bare| bare.weight() <= ack.weight() && bare.bare().is_none()));
        }
    }

    #[test]
    fn answers_are_settled_in_the_order_in_which_events_are_locked() {
        let ack = |event: u128, attempt: i32| {
            let id = EventId::from_uuid(uuid::Uuid::from_u128(event));
            let at = "2026-01-05T12:00:00Z".parse().unwrap();
            Ack::new(id, attempt, Verdict::Success, "order-service", at)
        };
        let came = [ack(3, 1), ack(1, 2), ack(2, 1), ack(1, 1), ack(3, 2)];
        let settled = by_event(came.into_iter().map(|ack| ((), ack)).collect());
        let settled: Vec<(u128, i32)> = settled
            .into_iter()
            .map(|(_, ack)| (ack.event_id.uuid().as_u128(), ack.attempt))
            .collect();
        assert_eq!(settled, [(1, 2), (1, 1), (2, 1), (3, 1), (3, 2)]);
    }
}
