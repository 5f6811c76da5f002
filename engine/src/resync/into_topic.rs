//! Kept states into another topic, beside the loop: each as the message that its event was, and nobody is asked for an
//! answer.
//!
//! One transaction reads a page and holds the job, another notes how much of it the broker has, and none is open while
//! messages travel. A stop in between repeats that page, and leaves nothing out. Nobody gives the hold back then: it ends
//! by itself, by the database's clock. What the broker does not take is tried again after pauses that grow, from the first
//! such state on; a message that it can never take is left out, and its key noted.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, database_now};
use common::env::Env;
use common::event::{Event, EventRow};
use common::retry::Backoff;
use diesel::QueryResult;
use diesel::result::Error;
use serde::{Deserialize, Serialize};

use super::model::{self, ResyncJob, Skipped};
use super::replay::{self, CHUNK, Place};
use super::step::{LastStep, end};
use super::{KeptStates, Resync, Walked};
use crate::bulk::JobState;
use crate::kafka::{Envelope, Message, Offset, Producer, SendError};
use crate::outbox::{Walk, kept_states, partition_of, shard_of};
use crate::verify::Owner;

/// So long a job is held for one page: longer than [`KeptPage::send`] takes at the most.
const HELD: Duration = Duration::from_secs(40);

/// The pauses of a job that does not get on.
const PAUSES: Backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(60) };

/// Why a key is skipped.
const NOTHING_KEPT: &str = "no event of it is kept";

/// How far a job is, as its row keeps it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    #[serde(flatten)]
    place: Place,
    /// Who sends the page behind that place now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Hold>,
    /// Why that page could not be sent the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hindered: Option<String>,
    /// How often in a row nothing of it could be.
    #[serde(default, skip_serializing_if = "is_zero")]
    failures: u32,
    /// When it is tried again, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rests_until: Option<Timestamp>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    by: String,
    until: Timestamp,
}

impl Progress {
    fn read(cursor: Option<&str>) -> QueryResult<Self> {
        let progress = cursor.map(serde_json::from_str).transpose();
        progress
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::DeserializationError(Box::new(error)))
    }

    fn write(&self) -> QueryResult<String> {
        serde_json::to_string(self).map_err(|error| Error::SerializationError(Box::new(error)))
    }

    /// Whether a page is under way, or a pause; a clock that was set back makes neither longer.
    fn waits(&self, now: Timestamp) -> bool {
        let is_ahead =
            |until: Timestamp, longest: Duration| now < until && until.since(now) <= longest;
        self.held.as_ref().is_some_and(|held| is_ahead(held.until, HELD))
            || self.rests_until.is_some_and(|until| is_ahead(until, PAUSES.max))
    }

    fn is_held_by(&self, hold: &str) -> bool {
        self.held.as_ref().is_some_and(|held| held.by == hold)
    }
}

/// Why a job does not get on, if its row says so.
pub(super) fn hindered(cursor: Option<&str>) -> Option<String> {
    Progress::read(cursor).ok()?.hindered
}

/// Whether a job can be worked on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    /// It can, and nothing is known that hinders it.
    Free,
    /// It can, but could not get on the last time.
    Hindered,
    /// A page of it is under way, or it rests after a failure.
    Waits,
}

/// Whether a replay can be worked on now, as its row says.
pub(super) fn readiness(cursor: Option<&str>, now: Timestamp) -> Readiness {
    match Progress::read(cursor) {
        Ok(progress) if progress.waits(now) => Readiness::Waits,
        Ok(Progress { hindered: Some(_), .. }) => Readiness::Hindered,
        // What can't be read is for the step to tell.
        _ => Readiness::Free,
    }
}

/// What became of a page's states, in their order; or why none could be sent.
pub type SentPage = Result<Vec<Result<Offset, SendError>>, String>;

/// Kept states that a job sends together; it is held for them until [`Resync::note`], or until the hold ends.
#[derive(Debug)]
pub struct KeptPage {
    job: i64,
    hold: String,
    topic: String,
    pub(super) states: Vec<EventRow>,
    /// Keys of which nothing is kept.
    skipped: Vec<String>,
    /// Where to go on; none at the end.
    next: Option<Place>,
    began_us: Timestamp,
}

/// Holds `job`, which does not wait, for its next page.
pub(super) fn begin(
    conn: &mut Conn,
    mut job: ResyncJob,
    (kept, topic): (&KeptStates, &str),
    env: &Env,
    owner: &dyn Owner,
) -> QueryResult<KeptPage> {
    let mut progress = Progress::read(job.cursor.as_deref())?;
    let clock = Timestamp::from_micros(database_now(conn)?);
    let now = env.now();
    let mut page = KeptPage {
        job: job.seq,
        hold: env.event_id().to_string(),
        topic: topic.to_owned(),
        states: Vec::new(),
        skipped: Vec::new(),
        next: None,
        began_us: now,
    };
    page.read(conn, kept, &progress.place, owner)?;
    progress.held = Some(Hold { by: page.hold.clone(), until: clock.after(HELD) });
    job.cursor = Some(progress.write()?);
    job.state = JobState::Running;
    job.started_us = job.started_us.or(Some(now));
    model::save(conn, &job)?;
    Ok(page)
}

impl KeptPage {
    /// The states behind `place`, each key's in the order of its versions.
    fn read(
        &mut self,
        conn: &mut Conn,
        kept: &KeptStates,
        place: &Place,
        owner: &dyn Owner,
    ) -> QueryResult<()> {
        let Walked { keys, cursor: further } = replay::keys(conn, kept, place, owner)?;
        for key in keys {
            let room = CHUNK.saturating_sub(self.states.len());
            if room == 0 {
                return Ok(());
            }
            let sent = place.version.filter(|_| place.key == key);
            let from = replay::first_version(conn, kept, &key, sent, owner)?;
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let states = kept_states(conn, &key, Walk::Up(from), limit)?;
            if states.is_empty() && sent.is_none() {
                self.skipped.push(key.clone());
            }
            // As many as there is room for: there may be more of this key.
            let version = states.last().filter(|_| states.len() == room).map(|last| last.version);
            self.states.extend(states);
            self.next = Some(Place { key, version });
        }
        let under_way = self.next.take().filter(|reached| reached.version.is_some());
        self.next = under_way.or(further.map(|key| Place { key, version: None }));
        Ok(())
    }

    /// Sends its states as what they were sent as for the first time by `service`, and waits for what the broker says of
    /// each; that takes half a minute at the most.
    pub async fn send(&self, producer: &Producer, service: &str) -> SentPage {
        let (producer, topic) = (producer.clone(), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let producer = producer.elsewhere().map_err(|error| error.to_string())?;
            let partitions = producer.partitions(&topic)?;
            Ok::<_, String>((producer, partitions))
        });
        let (producer, partitions) = asked.await.map_err(|error| error.to_string())??;
        Ok(producer.send_all(&self.messages(service, partitions)).await)
    }

    /// What the broker has of it by `sent`.
    fn settled(&self, sent: SentPage) -> Settled {
        let mut settled = Settled::default();
        let sent = match sent {
            Ok(sent) => sent,
            Err(cause) => return Settled { hindered: Some(cause), ..settled },
        };
        let topic = &self.topic;
        for (state, outcome) in self.states.iter().zip(sent) {
            let EventRow { key, version, .. } = state;
            let why = |error: &SendError| {
                format!("version {version} of {key} can't be sent into the topic {topic}: {error}")
            };
            match outcome {
                Ok(_) => settled.sent += 1,
                Err(error @ SendError::Message(_)) => {
                    settled.refused.entry(key.clone()).or_insert_with(|| why(&error));
                }
                Err(error @ SendError::Broker(_)) => {
                    settled.hindered = Some(why(&error));
                    return settled;
                }
            }
            settled.reached = Some(Place { key: key.clone(), version: Some(*version) });
        }
        settled
    }

    /// As the relay would send them for the first time to a topic of so many partitions.
    pub(super) fn messages(&self, service: &str, partitions: i32) -> Vec<Message> {
        let message = |state: &EventRow| {
            let event = Event {
                id: state.id,
                event_type: state.event_type.clone(),
                key: state.key.clone(),
                epoch: state.epoch,
                attempt: 1,
                time: state.created_us,
                traceparent: state.traceparent.clone(),
                data: state.payload.clone().into_bytes(),
            };
            let partition = partition_of(shard_of(&state.key), partitions);
            Envelope { source: format!("/{service}"), event }.into_message(&self.topic, partition)
        };
        self.states.iter().map(message).collect()
    }
}

impl Resync {
    /// Notes what became of a page, and gives its job back. What hinders it is kept with the job, which goes on, after a
    /// pause, with the first state that the broker did not take. A job that was cancelled, or held for so long that another
    /// may have gone on with it, is left alone.
    ///
    /// # Errors
    /// When the database fails; the page is sent once more then, after the hold.
    pub async fn note(
        &self,
        db: &Db,
        env: &Env,
        page: KeptPage,
        sent: SentPage,
    ) -> Result<(), DbError> {
        let (now, began, chance) = (env.now(), page.began_us, env.chance());
        let noted = db.write::<_, DbError>(move |conn| Ok(note(conn, page, sent, (now, chance))?));
        let last = match noted.await? {
            true => LastStep::over(began, now),
            false => LastStep::hindered(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(())
    }
}

/// What of a page is behind its job.
#[derive(Debug, Default)]
struct Settled {
    /// How many states the broker has.
    sent: usize,
    /// The keys of those that it can never take, and why.
    refused: BTreeMap<String, String>,
    /// The last of either before the first that can be tried again; none: there is nothing before that.
    reached: Option<Place>,
    /// Why that one is not there; none: there is no such state.
    hindered: Option<String>,
}

/// Notes a page; returns whether it has got through.
fn note(
    conn: &mut Conn,
    page: KeptPage,
    sent: SentPage,
    (now, chance): (Timestamp, f64),
) -> QueryResult<bool> {
    let Settled { sent, refused, reached, hindered } = page.settled(sent);
    let is_through = hindered.is_none();
    let Some(mut job) = model::lock(conn, page.job)? else { return Ok(is_through) };
    let before = Progress::read(job.cursor.as_deref())?;
    if !job.state.is_open() || !before.is_held_by(&page.hold) {
        return Ok(is_through);
    }
    let mut skipped = refused;
    for key in page.skipped {
        // A key behind the first state that is not there is met once more.
        if is_through || reached.as_ref().is_some_and(|reached| key < reached.key) {
            skipped.insert(key, NOTHING_KEPT.to_owned());
        }
    }
    let skipped = skipped.into_iter().map(|(key, why)| Skipped { job: job.seq, key, why });
    let skipped = model::note(conn, &skipped.collect::<Vec<_>>())?;
    job.done += i64::try_from(sent).unwrap_or(i64::MAX);
    job.skipped += i64::try_from(skipped).unwrap_or(i64::MAX);
    match hindered {
        Some(cause) => rest(conn, &mut job, before, (reached, cause), chance)?,
        None => go_on(conn, &mut job, before.place, page.next, now)?,
    }
    Ok(is_through)
}

/// Keeps why a job does not get on, and when it is tried again: from behind `reached`, if that is further.
fn rest(
    conn: &mut Conn,
    job: &mut ResyncJob,
    before: Progress,
    (reached, cause): (Option<Place>, String),
    chance: f64,
) -> QueryResult<()> {
    if before.hindered.as_ref() != Some(&cause) {
        tracing::warn!(job = job.seq, cause, "a replay does not get on; it is tried again");
    }
    let failures = if reached.is_some() { 1 } else { before.failures.saturating_add(1) };
    let clock = Timestamp::from_micros(database_now(conn)?);
    let after = Progress {
        place: reached.unwrap_or(before.place),
        held: None,
        hindered: Some(cause),
        failures,
        rests_until: Some(clock.after(PAUSES.delay(failures, chance))),
    };
    job.cursor = Some(after.write()?);
    model::save(conn, job)
}

/// Moves a job on behind its page: to `next`, or to its end.
fn go_on(
    conn: &mut Conn,
    job: &mut ResyncJob,
    before: Place,
    next: Option<Place>,
    now: Timestamp,
) -> QueryResult<()> {
    let is_last = next.is_none();
    let place = next.unwrap_or(before);
    job.cursor = Some(Progress { place, ..Progress::default() }.write()?);
    match is_last {
        true => end(conn, job, JobState::Done, now, None),
        false => model::save(conn, job),
    }
}
