//! Kept states into another topic, beside the loop: each as the message that its event was, and nobody is asked for an
//! answer.
//!
//! One transaction reads a page and holds the job, another notes the page once the broker has all of it, and none is
//! open while messages travel. A kill in between repeats that page, and leaves nothing out. Nobody gives the hold back
//! then: it ends by itself, by the database's clock.

use std::sync::PoisonError;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, database_now};
use common::env::Env;
use common::event::{Event, EventRow};
use diesel::QueryResult;
use diesel::result::Error;
use serde::{Deserialize, Serialize};

use super::model::{self, ResyncJob, Skipped};
use super::replay::{self, CHUNK, Place};
use super::step::{LastStep, end};
use super::{KeptStates, Resync, Walked};
use crate::bulk::JobState;
use crate::kafka::{Envelope, Message, Producer};
use crate::outbox::{Walk, kept_states, partition_of, shard_of};
use crate::verify::Owner;

/// So long a job is held for one page: longer than [`KeptPage::send`] takes at the most.
const HELD: Duration = Duration::from_secs(40);

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

    /// Whether a page is under way; a clock that was set back does not make that longer.
    fn is_held(&self, now: Timestamp) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| now < held.until && held.until.since(now) <= HELD)
    }

    fn is_held_by(&self, hold: &str) -> bool {
        self.held.as_ref().is_some_and(|held| held.by == hold)
    }
}

/// Why a job does not get on, if its row says so.
pub(super) fn hindered(cursor: Option<&str>) -> Option<String> {
    Progress::read(cursor).ok()?.hindered
}

/// Kept states that a job sends together; it is held for them until [`Resync::note`], or until the hold ends.
#[derive(Debug)]
pub struct KeptPage {
    job: i64,
    hold: String,
    topic: String,
    states: Vec<EventRow>,
    /// Keys of which nothing is kept.
    skipped: Vec<String>,
    /// Where to go on; none at the end.
    next: Option<Place>,
    began_us: Timestamp,
}

/// Holds `job` for its next page; none where another holds it.
pub(super) fn begin(
    conn: &mut Conn,
    mut job: ResyncJob,
    (kept, topic): (&KeptStates, &str),
    env: &Env,
    owner: &dyn Owner,
) -> QueryResult<Option<KeptPage>> {
    let mut progress = Progress::read(job.cursor.as_deref())?;
    let clock = Timestamp::from_micros(database_now(conn)?);
    if progress.is_held(clock) {
        return Ok(None);
    }
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
    Ok(Some(page))
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

    /// Sends its states as what they were sent as for the first time by `service`, and waits until the broker has all;
    /// that takes half a minute at the most.
    ///
    /// # Errors
    /// Why one of them is not there; others may be.
    pub async fn send(&self, producer: &Producer, service: &str) -> Result<(), String> {
        let (asker, topic) = (producer.clone(), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || asker.partitions(&topic)).await;
        let partitions = asked.map_err(|error| error.to_string())??;
        let sent = producer.send_elsewhere(&self.messages(service, partitions)).await;
        let refused =
            self.states.iter().zip(sent).find_map(|(state, sent)| Some((state, sent.err()?)));
        match refused {
            None => Ok(()),
            Some((EventRow { key, version, .. }, error)) => Err(format!(
                "version {version} of {key} can't be sent into the topic {}: {error}",
                self.topic
            )),
        }
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
    /// Notes what became of a page, and gives its job back; returns whether to go on at once. What hinders it is kept
    /// with the job, and the same page is its next one. A job that was cancelled, or held for so long that another may
    /// have gone on with it, is left alone.
    ///
    /// # Errors
    /// When the database fails; the page is sent once more then, after the hold.
    pub async fn note(
        &self,
        db: &Db,
        env: &Env,
        page: KeptPage,
        sent: Result<(), String>,
    ) -> Result<bool, DbError> {
        let (now, began) = (env.now(), page.began_us);
        let noted = db.write::<_, DbError>(move |conn| Ok(note(conn, page, sent, now)?)).await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = LastStep::over(began, now);
        Ok(noted)
    }
}

fn note(
    conn: &mut Conn,
    page: KeptPage,
    sent: Result<(), String>,
    now: Timestamp,
) -> QueryResult<bool> {
    let Some(mut job) = model::lock(conn, page.job)? else { return Ok(true) };
    let progress = Progress::read(job.cursor.as_deref())?;
    if !job.state.is_open() || !progress.is_held_by(&page.hold) {
        return Ok(true);
    }
    if let Err(cause) = sent {
        if progress.hindered.as_ref() != Some(&cause) {
            tracing::warn!(job = job.seq, cause, "a replay does not get on; it is tried again");
        }
        let hindered = Progress { held: None, hindered: Some(cause), ..progress };
        job.cursor = Some(hindered.write()?);
        model::save(conn, &job)?;
        return Ok(false);
    }
    job.done += i64::try_from(page.states.len()).unwrap_or(i64::MAX);
    job.skipped += i64::try_from(page.skipped.len()).unwrap_or(i64::MAX);
    let skipped = page.skipped.into_iter();
    let skipped = skipped.map(|key| Skipped { job: job.seq, key, why: NOTHING_KEPT.to_owned() });
    model::note(conn, &skipped.collect::<Vec<_>>())?;
    let is_last = page.next.is_none();
    let place = page.next.unwrap_or(progress.place);
    job.cursor = Some(Progress { place, ..Progress::default() }.write()?);
    match is_last {
        true => end(conn, &mut job, JobState::Done, now, None)?,
        false => model::save(conn, &job)?,
    }
    Ok(true)
}
