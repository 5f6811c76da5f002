//! What becomes of sends: the relay writes down what the broker said of them.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::DbError;
use common::ids::EventId;

use super::advance::advance;
use super::lease::LeaseSet;
use super::log::Place;
use super::offsets::offsets_of;
use super::position::ReadState;
use super::relay::{Relay, RelayOutcome};
use super::send::{Origin, PartitionSend};
use super::state::Trigger;
use super::store::{self, Confirmation, DueRow};
use super::update::{Advanced, Update};
use crate::kafka::{Offset, SendError};

/// By how much sends of several instances may overlap, and their clocks differ.
pub(super) const OVERLAP: Duration = Duration::from_secs(2);

/// What is written down of sends.
#[derive(Default)]
struct Noted {
    /// The shards that are still this relay's.
    mine: BTreeSet<i16>,
    /// The events that are SENT now.
    marked: HashSet<EventId>,
}

/// What the broker said of many events.
#[derive(Default)]
struct Answers {
    sent: Vec<Confirmation>,
    /// Events that can't be produced as they are, with their shards.
    refused: Vec<(i16, Update)>,
}

impl Answers {
    fn of(done: &[PartitionSend]) -> Self {
        let mut answers = Self::default();
        for send in done {
            for (row, result) in send.rows.iter().zip(&send.results) {
                answers.add(send, row, result);
            }
        }
        answers
    }

    fn add(&mut self, send: &PartitionSend, row: &DueRow, result: &Result<Offset, SendError>) {
        match result {
            Ok(offset) => self.sent.push(Confirmation {
                id: row.id,
                shard: row.shard,
                attempt: row.attempt + 1,
                partition: send.partition,
                offset: *offset,
                sent_us: send.at,
            }),
            Err(error @ SendError::Message(_)) => {
                let broken = Update::new(row.id, Trigger::Unproducible);
                self.refused.push((row.shard, broken.because(error.to_string())));
            }
            Err(SendError::Broker(_)) => {}
        }
    }
}

impl Relay {
    /// Writes down what the broker said.
    pub(super) async fn note_all(
        &self,
        held: &LeaseSet,
        done: Vec<PartitionSend>,
    ) -> Result<RelayOutcome, DbError> {
        let Answers { sent, refused } = Answers::of(&done);
        let mut outcome = RelayOutcome { refused: refused.len(), ..RelayOutcome::default() };
        let (mut noted, failure) = match self.note(held, sent, refused).await {
            Ok(noted) => (noted, None),
            Err(error) => (Noted::default(), Some(error)),
        };
        for send in &done {
            self.take_off(send, &mut noted, &mut outcome);
            match &send.origin {
                Origin::Table(read) => self.move_on(held, send, read, &noted),
                Origin::Log(places) => self.deal_with(send, places, failure.is_some()),
            }
        }
        failure.map_or(Ok(outcome), Err)
    }

    /// Its events are on their way no more; those that are SENT now are in flight.
    fn take_off(&self, send: &PartitionSend, noted: &mut Noted, outcome: &mut RelayOutcome) {
        for row in &send.rows {
            let is_sent = noted.marked.remove(&row.id);
            self.parts.in_flight.left(row.shard, i64::from(row.size), is_sent);
            outcome.sent += usize::from(is_sent);
            outcome.by_log += usize::from(is_sent && matches!(send.origin, Origin::Log(_)));
            if is_sent && row.attempt == 0 {
                outcome.first_sent.push(send.at.since(row.created_us));
            }
        }
    }

    /// Its shards are read on behind what needs no second look.
    fn move_on(&self, held: &LeaseSet, send: &PartitionSend, read: &ReadState, noted: &Noted) {
        let results = send.rows.iter().zip(&send.results);
        let left: BTreeSet<EventId> = results
            .filter(|(_, result)| matches!(result, Err(SendError::Broker(_))))
            .map(|(row, _)| row.id)
            .collect();
        let shards: BTreeSet<i16> = send.rows.iter().map(|row| row.shard).collect();
        for shard in shards.intersection(&noted.mine) {
            let is_done = |row: &DueRow| !left.contains(&row.id);
            if let Some(reached) = read.reached(*shard, send.rows.iter(), is_done) {
                self.positions.advance(read.generation, held, *shard, reached);
            }
        }
    }

    /// What came by the log and was not taken by the broker waits there again; all else is done, or the table's.
    fn deal_with(&self, send: &PartitionSend, places: &[Place], not_noted: bool) {
        let is_back = |result: &Result<Offset, SendError>| {
            !not_noted && matches!(result, Err(SendError::Broker(_)))
        };
        let sent = send.rows.iter().zip(places).zip(&send.results);
        let (back, done): (Vec<_>, Vec<_>) = sent.partition(|(_, result)| is_back(result));
        self.log.put_back(back.into_iter().map(|((row, place), _)| (row.clone(), *place)));
        self.log.finish(done.into_iter().map(|((_, place), _)| *place));
    }

    /// Writes down what the broker confirmed or refused, as far as the shards are still this relay's.
    async fn note(
        &self,
        held: &LeaseSet,
        sent: Vec<Confirmation>,
        mut refused: Vec<(i16, Update)>,
    ) -> Result<Noted, DbError> {
        if sent.is_empty() && refused.is_empty() {
            return Ok(Noted::default());
        }
        let (held, env, policy) = (held.clone(), self.parts.env.clone(), self.parts.policy.clone());
        let (topic, offsets) = (self.parts.topic.clone(), offsets_of(&sent));
        let shards: BTreeSet<i16> = sent.iter().map(|sent| sent.shard).collect();
        let shards = &shards | &refused.iter().map(|(shard, _)| *shard).collect();
        let anew = self.offsets.begun_anew(&offsets);
        let first = sent.iter().map(|sent| sent.sent_us).min();
        let before = first.unwrap_or_else(|| env.now()).before(OVERLAP);
        let (noted, done) = self
            .parts
            .db
            .write_by_index::<_, DbError>(move |conn| {
                let mine = store::fence(conn, &held, &shards)?;
                // What is SENT is locked before what is not, as everywhere.
                let whenever = Timestamp::from_micros(i64::MAX);
                store::begin_anew(conn, &topic, &anew, before, whenever)?;
                refused.retain(|(shard, _)| mine.contains(shard));
                let sent: Vec<Confirmation> =
                    sent.into_iter().filter(|row| mine.contains(&row.shard)).collect();
                if !refused.is_empty() || sent.iter().any(|row| row.attempt > 1) {
                    // All in one order, and before what is written besides.
                    let refused = refused.iter().map(|(_, update)| update.id);
                    let mut ids: Vec<EventId> =
                        sent.iter().map(|row| row.id).chain(refused).collect();
                    ids.sort_unstable();
                    store::lock(conn, &ids)?;
                }
                let mut done = Advanced::default();
                if !refused.is_empty() {
                    let refused = refused.into_iter().map(|(_, update)| update).collect();
                    done = advance(conn, &env, &policy, refused)?;
                }
                let marked = store::mark_sent(conn, &sent, env.now())?;
                Ok((Noted { mine, marked }, done))
            })
            .await?;
        self.offsets.remember(&offsets);
        done.log_exhausted();
        Ok(noted)
    }
}
