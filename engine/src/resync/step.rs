//! One step of a job.

use std::sync::PoisonError;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::ids::EventId;
use diesel::QueryResult;

use super::model::{self, ResyncJob, Skipped};
use super::replay::{self, Replayed};
use super::{
    KeptPage, KeptStates, Resend, ResendKey, Resent, Resync, ResyncKind, ResyncSelection, Walked,
    into_topic,
};
use crate::audit::{self, Actor, AuthMethod};
use crate::bulk::JobState;
use crate::outbox::Outbox;
use crate::verify::{self, KeyFinding, NewVerification, Owner};

/// Keys that one step sends at the most, where the copy waits for them.
const CHUNK: usize = 500;

/// The same where nobody does: live changes queue behind so few.
const PACED_CHUNK: usize = 100;

/// So long an answer is waited for once a step is sent, and so long is the rest at the most.
const LONGEST: Duration = Duration::from_secs(5);

/// What this instance appended last for a job.
#[derive(Debug, Clone, Default)]
pub(super) struct LastStep {
    /// Its events that the next step waits for.
    events: Vec<EventId>,
    /// Whether live changes come first: then a step is answered, and as long a rest follows, before the next one.
    paced: bool,
    appended_us: Timestamp,
    rest_until_us: Timestamp,
    /// Whether a page did not get through: then another job comes first, if there is one.
    hindered: bool,
}

/// What one step did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Whether there was a job to work on; there may be more to do then.
    pub worked: bool,
    /// Whether the job waits until what it appended before is sent, or answered, or gives way to live changes.
    pub waits: bool,
    /// Events that were appended.
    pub appended: usize,
    /// Whether a verification was put down at the job's end.
    pub verifies: bool,
    /// What is to be sent into another topic now, and then noted by [`Resync::note`].
    pub page: Option<KeptPage>,
}

/// What is next in a selection.
struct Next {
    keys: Vec<ResendKey>,
    skipped: Vec<(String, String)>,
    /// Where to go on; none at the end.
    cursor: Option<String>,
}

impl Resync {
    /// Works on the oldest open job that can be worked on now, for one chunk of keys, once what this instance appended
    /// before is sent; where no copy waits for it, once that is answered and as long a rest is over. Replays are worked
    /// on where there is no other job.
    ///
    /// The caller calls [`Outbox::wake`] if anything was appended, and sends and notes a page, if there is one.
    ///
    /// # Errors
    /// When the database fails; nothing of the step is kept then.
    pub async fn run_once(
        &self,
        db: &Db,
        env: &Env,
        outbox: &Outbox,
        owner: std::sync::Arc<dyn Owner>,
        consumer: &str,
    ) -> Result<Outcome, DbError> {
        if self.waits(db, env.now()).await? {
            return Ok(Outcome { worked: true, waits: true, ..Outcome::default() });
        }
        let hindered = self.last.lock().unwrap_or_else(PoisonError::into_inner).hindered;
        let (env, outbox, consumer) = (env.clone(), outbox.clone(), consumer.to_owned());
        let stepped = db.write::<_, DbError>(move |conn| {
            let Some(job) = model::take(conn, hindered)? else {
                return Ok((Outcome::default(), LastStep::default()));
            };
            Ok(step(conn, job, &env, &outbox, &*owner, &consumer)?)
        });
        let (outcome, last) = stepped.await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(outcome)
    }

    async fn waits(&self, db: &Db, now: Timestamp) -> Result<bool, DbError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.events.is_empty() {
            return Ok(last.rests(now));
        }
        let took = now.since(last.appended_us).min(LONGEST);
        let (events, answered) = (last.events, last.paced && took < LONGEST);
        let open =
            db.read::<_, DbError>(move |conn| Ok(model::on_its_way(conn, &events, answered)?));
        last.events = open.await?;
        if last.paced && last.events.is_empty() {
            last.rest_until_us = now.after(took);
        }
        let waits = !last.events.is_empty() || last.rests(now);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(waits)
    }
}

impl LastStep {
    /// After a step that nobody answers: as long a rest as it took.
    pub(super) fn over(began: Timestamp, now: Timestamp) -> Self {
        let rest_until_us = now.after(now.since(began).min(LONGEST));
        Self { rest_until_us, ..Self::default() }
    }

    /// After a page that did not get through.
    pub(super) fn hindered() -> Self {
        Self { hindered: true, ..Self::default() }
    }

    /// Whether the rest is not over; a clock that was set back does not make it longer.
    fn rests(&self, now: Timestamp) -> bool {
        now < self.rest_until_us && self.rest_until_us.since(now) <= LONGEST
    }
}

impl ResyncKind {
    /// Whether live changes come before it: no copy is known to lack what it sends, or only some keys.
    const fn is_paced(self) -> bool {
        matches!(self, Self::Resync | Self::Repair | Self::Replay)
    }

    const fn chunk(self) -> usize {
        if self.is_paced() { PACED_CHUNK } else { CHUNK }
    }
}

fn step(
    conn: &mut Conn,
    mut job: ResyncJob,
    env: &Env,
    outbox: &Outbox,
    owner: &dyn Owner,
    consumer: &str,
) -> QueryResult<(Outcome, LastStep)> {
    let now = env.now();
    let Ok(selection) = serde_json::from_str::<ResyncSelection>(&job.selection) else {
        // Another version of this program wrote it; to go on would block all jobs behind it.
        end(conn, &mut job, JobState::Cancelled, now, Some("this service, which can't read it"))?;
        return Ok((Outcome { worked: true, ..Outcome::default() }, LastStep::default()));
    };
    if let ResyncSelection::Kept(kept @ KeptStates { into: Some(topic), .. }) = &selection {
        let page = into_topic::begin(conn, job, (kept, topic.as_str()), env, owner)?;
        let outcome = Outcome { worked: true, page: Some(page), ..Outcome::default() };
        return Ok((outcome, LastStep::default()));
    }
    let resend = Resend { keys: &[], kind: job.kind, reason: job.reason.as_deref(), now };
    let cursor = job.cursor.as_deref();
    let Replayed { events, skipped, cursor } = match &selection {
        ResyncSelection::Kept(kept) => replay::next(conn, kept, cursor, &resend, owner)?,
        _ => present_states(conn, &selection, cursor.unwrap_or_default(), resend, owner)?,
    };
    let ids = outbox.append_of(conn, events)?;
    job.done += i64::try_from(ids.len()).unwrap_or(i64::MAX);
    job.skipped += i64::try_from(skipped.len()).unwrap_or(i64::MAX);
    job.started_us = job.started_us.or(Some(now));
    let rows: Vec<Skipped> =
        skipped.into_iter().map(|(key, why)| Skipped { job: job.seq, key, why }).collect();
    model::note(conn, &rows)?;
    let mut verifies = false;
    match cursor {
        Some(cursor) => {
            job.state = JobState::Running;
            job.cursor = Some(cursor);
            model::save(conn, &job)?;
        }
        None => {
            verifies = verify_again(conn, &mut job, &selection, now, consumer)?;
            end(conn, &mut job, JobState::Done, now, None)?;
        }
    }
    let outcome = Outcome { worked: true, appended: ids.len(), verifies, ..Outcome::default() };
    let paced = job.kind.is_paced();
    Ok((outcome, LastStep { events: ids, paced, appended_us: now, ..LastStep::default() }))
}

/// The present states of the next keys.
fn present_states(
    conn: &mut Conn,
    selection: &ResyncSelection,
    after: &str,
    resend: Resend<'_>,
    owner: &dyn Owner,
) -> QueryResult<Replayed> {
    let next = next_of(conn, selection, after, resend.kind, owner)?;
    let Resent { events, mut skipped } = match next.keys.is_empty() {
        true => Resent::default(),
        false => owner.resend(conn, &Resend { keys: &next.keys, ..resend })?,
    };
    skipped.extend(next.skipped);
    let events = events.into_iter().map(|event| (event, None)).collect();
    Ok(Replayed { events, skipped, cursor: next.cursor })
}

fn next_of(
    conn: &mut Conn,
    selection: &ResyncSelection,
    after: &str,
    kind: ResyncKind,
    owner: &dyn Owner,
) -> QueryResult<Next> {
    let chunk = kind.chunk();
    let limit = i64::try_from(chunk).unwrap_or(i64::MAX);
    match selection {
        ResyncSelection::Differences(seq) => {
            let found = verify::findings(conn, *seq, true, after, limit)?;
            let epoch = Outbox::epoch(conn)?;
            let cursor = cursor_after(chunk, found.len(), found.last().map(|one| one.key.as_str()));
            let (mut keys, mut skipped) = (Vec::new(), Vec::new());
            for one in found {
                match why_not(&one, kind, epoch) {
                    Some(why) => skipped.push((one.key, why)),
                    None => keys.push(ResendKey { key: one.key, above: one.copy_version }),
                }
            }
            Ok(Next { keys, skipped, cursor })
        }
        ResyncSelection::Keys(keys) => {
            let mut keys: Vec<&String> = keys.iter().filter(|key| key.as_str() > after).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(chunk);
            let cursor = cursor_after(chunk, keys.len(), keys.last().map(|key| key.as_str()));
            Ok(Next {
                keys: keys.into_iter().map(|key| named(key)).collect(),
                skipped: Vec::new(),
                cursor,
            })
        }
        // Its steps are those of `replay`.
        ResyncSelection::Kept(_) => {
            Ok(Next { keys: Vec::new(), skipped: Vec::new(), cursor: None })
        }
        ResyncSelection::Where(which) => {
            let Walked { keys, cursor } = owner.next_keys(conn, after, which, limit)?;
            Ok(Next {
                keys: keys.iter().map(|key| named(key)).collect(),
                skipped: Vec::new(),
                cursor,
            })
        }
    }
}

pub(super) fn named(key: &str) -> ResendKey {
    ResendKey { key: key.to_owned(), above: None }
}

/// Where to go on after `count` keys; fewer than were asked for are the last.
fn cursor_after(chunk: usize, count: usize, last: Option<&str>) -> Option<String> {
    last.filter(|_| count == chunk).map(str::to_owned)
}

/// Why a key that differs is left as it is, if it is.
fn why_not(found: &KeyFinding, kind: ResyncKind, epoch: i64) -> Option<String> {
    match (found.copy_epoch, found.event_id) {
        (Some(copy), _) if copy > epoch => Some(format!(
            "the copy has it in epoch {copy}, and this service is in epoch {epoch}: its database may have come back from a backup"
        )),
        // A filling goes on by itself: each of its rounds would give a person one event more.
        (_, Some(event)) if kind == ResyncKind::Bootstrap => {
            Some(format!("its event {event} waits for a person already"))
        }
        _ => None,
    }
}

/// A repair ends with a look at what it mended.
fn verify_again(
    conn: &mut Conn,
    job: &mut ResyncJob,
    selection: &ResyncSelection,
    now: Timestamp,
    consumer: &str,
) -> QueryResult<bool> {
    let (ResyncKind::Repair, ResyncSelection::Differences(earlier)) = (job.kind, selection) else {
        return Ok(false);
    };
    let consumer = verify::find(conn, *earlier)?.map_or(consumer.to_owned(), |one| one.consumer);
    let new = NewVerification {
        consumer,
        keys_of: Some(*earlier),
        share: 1_000,
        state: verify::State::Waiting,
        created_us: now,
        created_by: format!("{} (repair {})", job.created_by, job.seq),
        created_via: job.created_via.clone(),
    };
    job.verification = verify::insert(conn, &new)?;
    Ok(job.verification.is_some())
}

pub(super) fn end(
    conn: &mut Conn,
    job: &mut ResyncJob,
    state: JobState,
    now: Timestamp,
    by: Option<&str>,
) -> QueryResult<()> {
    job.state = state;
    job.ended_us = Some(now);
    job.ended_by = by.map(str::to_owned);
    model::save(conn, job)?;
    let detail = serde_json::json!({
        "kind": job.kind.name(), "state": state.name(), "done": job.done, "skipped": job.skipped,
    });
    let by = Actor { name: job.created_by.clone(), method: AuthMethod::of_name(&job.created_via) };
    let entry = by.entry(now, "resync.end", Some(&job.seq.to_string()), Some(detail));
    audit::append(conn, &entry)
}
