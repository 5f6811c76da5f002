//! One step of a filling.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, DbError};
use common::env::Env;
use common::ids::EventId;
use common::retry::Backoff;
use diesel::QueryResult;

use super::model::{self, Filling, NewFilling, State, Unanswered};
use super::{Bootstrap, Fillable};
use crate::bulk::JobState;
use crate::consumers::{Consumers, Voice};
use crate::outbox::{self, Behind};
use crate::resync::{self, NewResync, ResyncKind, ResyncSelection, Which};
use crate::verify::wire::{KeySet, MAX_KEY, PROTOCOL, ReplicaInfo, Terms};
use crate::verify::{self, FILLING, NewVerification, Owner, SCHEDULED, SideError, Verification};

/// Keys that one step counts.
const COUNTED: i64 = 5_000;

/// So few keys are compared first, and only those sent that differ: most may be on their way already. Of more, the first
/// so many tell whether the copy has most.
const FEW: i64 = 500;

/// Rounds after which people are told that the copy still differs.
const PATIENT_ROUNDS: i32 = 3;

/// Pauses before a copy that differed, or could not be judged, is verified again.
const AGAIN: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(5 * 60) };

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether a filling is under way.
    pub open: bool,
    /// Whether there is more to do right now.
    pub again: bool,
    /// Whether the consumer gave no answer.
    pub away: bool,
    /// Whether a job that sends states was put down.
    pub resyncs: bool,
    /// Whether a verification was put down.
    pub verifies: bool,
}

/// What was seen of the consumer before a step.
struct Seen {
    info: Option<ReplicaInfo>,
    /// Why it gave no answer.
    away: Option<String>,
    /// Whether it has most of the first keys, where that was asked.
    has_most: Option<bool>,
    /// What it said when it was told that it is complete.
    told: Option<bool>,
}

/// What a step works with inside its transaction.
struct Step<'a> {
    env: &'a Env,
    owner: &'a dyn Owner,
    now: Timestamp,
    topic: &'a str,
    seen: &'a Seen,
    outcome: Outcome,
}

impl Bootstrap {
    /// Makes the next step for `consumer`'s copy: begins to fill one that is not complete, or goes on.
    ///
    /// The caller wakes whoever sends states or verifies, as the outcome says.
    ///
    /// # Errors
    /// When the own database fails; nothing of the step is kept then. A consumer that gives no answer is no error.
    pub async fn run_once<C: Fillable>(&self, consumer: &C) -> Result<Outcome, DbError> {
        let name = consumer.consumer().to_owned();
        let open = self.db.read::<_, DbError>({
            let name = name.clone();
            move |conn| Ok(model::under_way(conn, &name)?)
        });
        let open = open.await?;
        let seen = self.ask(consumer, open.as_ref()).await?;
        let (env, owner, now) = (self.env.clone(), self.owner.clone(), self.env.now());
        let topic = self.topic.clone();
        let Some(open) = open else { return self.begin(&name, seen, now).await };
        let stepped = self.db.write::<_, DbError>(move |conn| {
            let Some(mut row) = model::lock(conn, open.seq)? else { return Ok(Outcome::default()) };
            let outcome = Outcome { away: seen.away.is_some(), ..Outcome::default() };
            let mut step =
                Step { env: &env, owner: &*owner, now, topic: &topic, seen: &seen, outcome };
            let before = row.clone();
            step.advance(conn, &mut row)?;
            if row != before {
                model::save(conn, &row)?;
            }
            Ok(Outcome { open: row.state.is_open(), ..step.outcome })
        });
        stepped.await
    }

    /// Puts a filling down for a copy that says that it is not complete.
    async fn begin(&self, name: &str, seen: Seen, now: Timestamp) -> Result<Outcome, DbError> {
        let incomplete = seen.info.filter(|info| info.complete == Some(false));
        let Some(copy_id) = incomplete.and_then(|info| info.copy_id) else {
            return Ok(Outcome { away: seen.away.is_some(), ..Outcome::default() });
        };
        let name = name.to_owned();
        self.db
            .write::<_, DbError>(move |conn| {
                // What a person stopped, a person starts again.
                let stopped = model::newest(conn, &name, &copy_id)?
                    .is_some_and(|one| one.state == State::Cancelled && one.ended_by.is_some());
                if stopped {
                    return Ok(Outcome::default());
                }
                let new = NewFilling {
                    consumer: name.clone(),
                    copy_id: Some(copy_id),
                    state: State::Counting,
                    due_us: now,
                    created_us: now,
                    created_by: "the copy, which is not complete".to_owned(),
                    created_via: SCHEDULED.to_owned(),
                };
                if let Some(seq) = model::insert(conn, &new)? {
                    tracing::info!(seq, consumer = name, "a copy is being filled");
                }
                Ok(Outcome { open: true, again: true, ..Outcome::default() })
            })
            .await
    }
}

impl Bootstrap {
    /// Asks a consumer for what the next step needs.
    async fn ask<C: Fillable>(
        &self,
        consumer: &C,
        open: Option<&Filling>,
    ) -> Result<Seen, DbError> {
        let mut seen = Seen { info: None, away: None, has_most: None, told: None };
        match self.ask_into(&mut seen, consumer, open).await {
            Ok(()) => Ok(seen),
            Err(SideError::Database(error)) => Err(error),
            Err(error) => Ok(Seen { away: Some(error.to_string()), ..seen }),
        }
    }

    async fn ask_into<C: Fillable>(
        &self,
        seen: &mut Seen,
        consumer: &C,
        open: Option<&Filling>,
    ) -> Result<(), SideError> {
        seen.info = Some(consumer.info().await?);
        let Some(row) = open.filter(|row| seen.is_of(row)) else { return Ok(()) };
        match (row.state, row.copy_id.as_deref()) {
            (State::Filling, _) if row.job.is_none() => {
                seen.has_most = Some(self.has_most(consumer).await?);
            }
            (State::Telling, Some(copy_id)) => seen.told = Some(consumer.complete(copy_id).await?),
            _ => {}
        }
        Ok(())
    }

    /// Whether a copy has more than half of the first keys.
    async fn has_most<C: Fillable>(&self, consumer: &C) -> Result<bool, SideError> {
        let owner = self.owner.clone();
        let walked = self.db.read::<_, DbError>(move |conn| {
            Ok(owner.next_keys(conn, "", &Which::default(), FEW)?)
        });
        let mut keys = walked.await?.keys;
        keys.retain(|key| key.len() <= MAX_KEY && !key.contains('\0'));
        if keys.is_empty() {
            return Ok(true);
        }
        let (terms, asked) = (self.any_terms(), keys.len());
        let (states, _) = consumer.states(&terms, &KeySet::Keys(keys)).await?;
        Ok(states.len() * 2 > asked)
    }

    /// Which keys there are is all that is asked for.
    fn any_terms(&self) -> Terms {
        Terms {
            protocol: PROTOCOL,
            collection: self.owner.collection().to_owned(),
            fields: Vec::new(),
            tombstones_since: Timestamp::default(),
        }
    }
}

impl Seen {
    /// Whether the copy that a filling is for has answered.
    fn is_of(&self, row: &Filling) -> bool {
        self.info.as_ref().is_some_and(|info| info.copy_id == row.copy_id)
    }
}

impl Step<'_> {
    fn advance(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let waits = self.now < row.due_us && row.due_us <= self.now.latest(AGAIN.max);
        if self.ends(conn, row)? || waits {
            return Ok(());
        }
        let asks = matches!(row.state, State::Verifying | State::Telling);
        if let Some(away) = self.seen.away.as_ref().filter(|_| asks) {
            row.reason = Some(away.clone());
        }
        match row.state {
            State::Counting => self.count(conn, row),
            State::Filling => self.fill(conn, row),
            State::Arriving => self.arrive(conn, row),
            State::Verifying => self.verify(conn, row),
            State::Telling => self.tell(conn, row),
            State::Done | State::Cancelled => Ok(()),
        }
    }

    /// Ends a filling whose copy is complete, or is another one by now.
    fn ends(&self, conn: &mut Conn, row: &mut Filling) -> QueryResult<bool> {
        let Some(info) = &self.seen.info else { return Ok(false) };
        if info.complete != Some(false) {
            row.reason = None;
            end(conn, row, State::Done, self.now)?;
            return Ok(true);
        }
        match (&row.copy_id, &info.copy_id) {
            (None, Some(copy_id)) => row.copy_id = Some(copy_id.clone()),
            (Some(asked), Some(found)) if asked != found => {
                let why = format!("copy {found} answers by now: it was emptied or replaced");
                row.reason = Some(why);
                end(conn, row, State::Cancelled, self.now)?;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn count(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let after = row.cursor.clone().unwrap_or_default();
        let walked = self.owner.next_keys(conn, &after, &Which::default(), COUNTED)?;
        row.expected += count(walked.keys.len());
        match walked.cursor {
            Some(cursor) => row.cursor = Some(cursor),
            None => row.state = State::Filling,
        }
        self.outcome.again = true;
        Ok(())
    }

    /// Sends all, or what a verification finds where most is there already.
    fn choose(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let Some(has_most) = self.seen.has_most else {
            row.reason.clone_from(&self.seen.away);
            return Ok(());
        };
        row.reason = None;
        if row.expected > FEW && !has_most {
            return self.send(conn, row, None);
        }
        row.state = State::Verifying;
        self.outcome.again = true;
        Ok(())
    }

    /// Puts down the job that sends all keys, or those that a verification found to differ.
    fn send(
        &mut self,
        conn: &mut Conn,
        row: &mut Filling,
        found: Option<&Verification>,
    ) -> QueryResult<()> {
        let (selection, expected) = match found {
            Some(found) if !found.cut => {
                (ResyncSelection::Differences(found.seq), found.differences)
            }
            _ => (ResyncSelection::Where(Which::default()), row.expected),
        };
        let selection = selection.to_json()?;
        let job = NewResync {
            kind: ResyncKind::Bootstrap,
            selection,
            reason: None,
            state: JobState::Waiting,
            expected: Some(expected),
            created_us: self.now,
            created_by: by(row),
            created_via: SCHEDULED.to_owned(),
        };
        row.job = Some(resync::insert(conn, &job)?);
        row.state = State::Filling;
        row.started_us = row.started_us.or(Some(self.now));
        self.outcome.resyncs = true;
        Ok(())
    }

    /// Follows the job.
    fn fill(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let Some(job) = row.job else { return self.choose(conn, row) };
        let Some(job) = resync::find(conn, job)? else {
            row.reason = Some("the job that sends the states is gone".to_owned());
            return end(conn, row, State::Cancelled, self.now);
        };
        row.done = row.done.max(job.done + job.skipped);
        match job.state {
            JobState::Done => {
                row.state = State::Arriving;
                row.filled_us = Some(self.now);
                row.last_event = Some(self.env.event_id());
                self.outcome.again = true;
                Ok(())
            }
            JobState::Cancelled => {
                let who = job.ended_by.unwrap_or_default();
                row.reason = Some(format!(
                    "job {}, which sends the states, was cancelled by {who}",
                    job.seq
                ));
                row.ended_by = Some(who);
                end(conn, row, State::Cancelled, self.now)
            }
            _ => Ok(()),
        }
    }

    /// Waits until the consumer has answered all that was sent.
    fn arrive(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let last = row.last_event.unwrap_or(EventId::NIL);
        row.reason =
            match conn.read_by_index(|conn| model::unanswered(conn, last, &row.consumer))? {
                Some(open) => Some(on_its_way(row, open)),
                None => self.behind(conn, row, last)?,
            };
        if row.reason.is_none() {
            row.state = State::Verifying;
            self.outcome.again = true;
        }
        Ok(())
    }

    /// What a consumer that nothing waits for has not reached yet, though it was sent.
    fn behind(&self, conn: &mut Conn, row: &Filling, last: EventId) -> QueryResult<Option<String>> {
        let consumer = &row.consumer;
        if Consumers::registered(conn)?.voice(consumer, last) != Voice::Watched {
            return Ok(None);
        }
        let waited = row.filled_us.map_or(Duration::ZERO, |filled| self.now.since(filled));
        let counts = |one: &Behind| one.has_answered || waited < outbox::FIRST_ANSWER;
        let behind = outbox::behind(conn, self.topic, consumer)?;
        let (partitions, offsets) = behind
            .iter()
            .filter(|one| counts(one))
            .fold((0, 0), |(partitions, offsets), one| (partitions + 1, offsets + one.offsets));
        Ok((partitions > 0).then(|| {
            format!(
                "{consumer} is {offsets} messages behind the others, in {partitions} partitions"
            )
        }))
    }

    /// Puts a verification down, and follows it.
    fn verify(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        let Some(seq) = row.verification else { return self.ask_for_proof(conn, row) };
        let Some(found) = verify::find(conn, seq)? else {
            row.verification = None;
            return Ok(());
        };
        match found.state {
            verify::State::Equal => {
                row.state = State::Telling;
                row.reason = None;
                self.outcome.again = true;
            }
            verify::State::Different => {
                let differences = found.differences;
                row.rounds += 1;
                row.reason = Some(format!(
                    "{differences} keys differed in verification {seq}; all but those whose events wait for a person are sent again"
                ));
                self.rest(row);
                row.verification = None;
                self.send(conn, row, Some(&found))?;
            }
            verify::State::Unknown | verify::State::Cancelled => {
                let why = found.reason.unwrap_or_else(|| "it was cancelled".to_owned());
                row.reason = Some(format!("verification {seq} came to no verdict: {why}"));
                row.rounds += 1;
                row.verification = None;
                self.rest(row);
            }
            _ => {}
        }
        Ok(())
    }

    fn ask_for_proof(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        if self.seen.away.is_some() {
            return Ok(());
        }
        // What differs after some rounds is not on its way: the verification then tells people.
        let via = if row.rounds < PATIENT_ROUNDS { FILLING } else { SCHEDULED };
        let new = NewVerification {
            consumer: row.consumer.clone(),
            keys_of: None,
            share: 1_000,
            state: verify::State::Waiting,
            created_us: self.now,
            created_by: by(row),
            created_via: via.to_owned(),
        };
        // What a person asked for is waited for.
        row.verification = verify::insert_before_scheduled(conn, &new)?;
        self.outcome.verifies = row.verification.is_some();
        Ok(())
    }

    fn tell(&mut self, conn: &mut Conn, row: &mut Filling) -> QueryResult<()> {
        match self.seen.told {
            Some(true) => {
                row.reason = None;
                end(conn, row, State::Done, self.now)
            }
            // The next look tells which copy answers.
            Some(false) | None => Ok(()),
        }
    }

    fn rest(&self, row: &mut Filling) {
        row.due_us = self.now.after(AGAIN.delay(row.rounds.unsigned_abs(), self.env.chance()));
    }
}

/// Stops a filling that is not at its end, as `by` wants it; returns whether it was open.
///
/// # Errors
/// When a statement fails.
pub fn cancel(conn: &mut Conn, seq: i64, now: Timestamp, by: &str) -> QueryResult<bool> {
    let Some(mut row) = model::lock(conn, seq)? else { return Ok(false) };
    row.ended_by = Some(by.to_owned());
    row.reason = Some(format!("cancelled by {by}"));
    end(conn, &mut row, State::Cancelled, now)?;
    model::save(conn, &row)?;
    Ok(true)
}

/// Ends a filling, with what works for it.
fn end(conn: &mut Conn, row: &mut Filling, state: State, now: Timestamp) -> QueryResult<()> {
    let by = by(row);
    if let Some(job) = row.job {
        resync::cancel(conn, job, now, &by)?;
    }
    if let Some(verification) = row.verification {
        verify::cancel(conn, verification, now, &by)?;
    }
    row.state = state;
    row.ended_us = Some(now);
    let Filling { seq, consumer, expected, reason, .. } = row;
    tracing::info!(
        seq,
        consumer,
        expected,
        state = state.name(),
        reason,
        "the filling of a copy ended"
    );
    Ok(())
}

fn on_its_way(row: &Filling, open: Unanswered) -> String {
    let Unanswered { oldest, events, more } = open;
    let events = match (events, more) {
        (1, false) => "1 event".to_owned(),
        (events, false) => format!("{events} events"),
        (events, true) => format!("more than {events} events"),
    };
    format!("{events} from {oldest} on wait to be sent, or for the answer of {}", row.consumer)
}

fn by(row: &Filling) -> String {
    format!("the filling {} of {}", row.seq, row.consumer)
}

fn count(keys: usize) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}
