//! What becomes of sends: the relay writes down what the broker said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::db::DbError;
use common::ids::EventId;

use super::advance::advance;
use super::lease::LeaseSet;
use super::offsets::offsets_of;
use super::relay::{Relay, RelayOutcome};
use super::send::PartitionSend;
use super::state::Trigger;
use super::store::{self, Confirmation, DueRow};
use super::update::{Advanced, Update};
use crate::counters;
use crate::kafka::SendError;

/// By how much sends of several instances may overlap, and their clocks differ.
const OVERLAP: Duration = Duration::from_secs(2);

/// What is written down of sends.
#[derive(Default)]
struct Noted {
    /// The shards that are still this relay's.
    mine: BTreeSet<i16>,
    /// The events that are SENT now.
    marked: BTreeSet<EventId>,
}

impl Relay {
    /// Writes down what the broker said.
    pub(super) async fn note_all(
        &self,
        held: &LeaseSet,
        done: Vec<PartitionSend>,
    ) -> Result<RelayOutcome, DbError> {
        let (mut sent, mut refused, mut troubled) = (Vec::new(), Vec::new(), BTreeMap::new());
        for send in &done {
            for (row, result) in send.rows.iter().zip(&send.results) {
                match result {
                    Ok(offset) => sent.push(Confirmation {
                        id: row.id,
                        shard: row.shard,
                        attempt: row.attempt + 1,
                        partition: send.partition,
                        offset: *offset,
                        sent_us: send.at,
                    }),
                    Err(error @ SendError::Message(_)) => {
                        let broken = Update::new(row.id, Trigger::Unproducible);
                        refused.push((row.shard, broken.because(error.to_string())));
                    }
                    Err(error @ SendError::Broker(_)) => {
                        troubled.insert(send.partition, error.to_string());
                    }
                }
            }
            if !troubled.contains_key(&send.partition) {
                self.backoff.end(send.partition);
            }
        }
        self.backoff.begin(troubled, self.parts.env.chance());
        sent.sort_unstable_by_key(|sent| sent.id);
        let refusals = refused.len();
        let (noted, failure) = match self.note(held, sent, refused).await {
            Ok(noted) => (noted, None),
            Err(error) => (Noted::default(), Some(error)),
        };
        let Noted { mine, mut marked } = noted;
        let mut outcome = RelayOutcome { refused: refusals, ..RelayOutcome::default() };
        for send in &done {
            for row in &send.rows {
                let is_sent = marked.remove(&row.id);
                self.parts.in_flight.left(row.shard, i64::from(row.size), is_sent);
                outcome.sent += usize::from(is_sent);
                if is_sent && row.attempt == 0 {
                    outcome.first_sent.push(send.at.since(row.created_us));
                }
            }
            let unsent: BTreeSet<EventId> = send
                .rows
                .iter()
                .zip(&send.results)
                .filter(|(_, result)| matches!(result, Err(SendError::Broker(_))))
                .map(|(row, _)| row.id)
                .collect();
            let shards: BTreeSet<i16> = send.rows.iter().map(|row| row.shard).collect();
            for shard in shards.intersection(&mine) {
                let done = |row: &DueRow| !unsent.contains(&row.id);
                if let Some(reached) = send.read.reached(*shard, send.rows.iter(), done) {
                    self.positions.advance(send.read.generation, held, *shard, reached);
                }
            }
        }
        failure.map_or(Ok(outcome), Err)
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
        let anew = self.offsets.begun_anew(&offsets);
        let first = sent.iter().map(|sent| sent.sent_us).min();
        let before = first.unwrap_or_else(|| env.now()).before(OVERLAP);
        let (noted, done) = self
            .parts
            .db
            .write::<_, DbError>(move |conn| {
                conn.plan_by_index()?;
                let mine = store::fence(conn, &held)?;
                // What is SENT is locked before what is not, as everywhere.
                store::begin_anew(conn, &topic, &anew, before)?;
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
                let marked: BTreeSet<EventId> =
                    store::mark_sent(conn, &sent)?.into_iter().collect();
                if !marked.is_empty() {
                    counters::add(conn, counters::SENT, env.now(), marked.len())?;
                }
                Ok((Noted { mine, marked }, done))
            })
            .await?;
        self.offsets.remember(&offsets);
        done.log_exhausted();
        Ok(noted)
    }
}
