//! One step of a job.

use std::collections::HashSet;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::event::Status;
use common::ids::EventId;
use diesel::QueryResult;

use super::model::{self, Action, Item, Job, JobState, actor_of};
use super::{Bulk, Selection, preview};
use crate::audit::{self, Actor, AuthMethod};
use crate::outbox::operate::{ActionOutcome, OperatorAction, act_on_all};
use crate::outbox::search::{EventFilter, SearchBounds};
use crate::outbox::{Found, Outbox};

/// Events that one step acts on at the most.
const CHUNK: usize = 500;

/// Events that one step looks at at the most, so that its transaction is short.
const BOUNDS: SearchBounds = SearchBounds { rows: 5_000, chunk: 1_000 };

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether there was a job to work on; there may be more to do then.
    pub worked: bool,
    /// Events that were acted on.
    pub done: usize,
    /// Events that were left as they are.
    pub skipped: usize,
}

impl Bulk {
    /// Works on the oldest open job that nobody else works on, for one chunk of events.
    ///
    /// The caller calls [`Outbox::wake`] if anything was done.
    ///
    /// # Errors
    /// When the database fails; nothing of the step is kept then.
    pub async fn run_once(&self, db: &Db, env: &Env, outbox: &Outbox) -> Result<Outcome, DbError> {
        let (now, outbox) = (env.now(), outbox.clone());
        db.write(move |conn| match model::take(conn)? {
            Some(job) => Ok(step(conn, job, now, &outbox)?),
            None => Ok(Outcome::default()),
        })
        .await
    }
}

fn step(conn: &mut Conn, mut job: Job, now: Timestamp, outbox: &Outbox) -> QueryResult<Outcome> {
    let Ok(selection) = serde_json::from_str::<Selection>(&job.selection) else {
        // Another version of this program wrote it; to go on would block all jobs behind it.
        end(conn, &mut job, JobState::Cancelled, now, Some("this service, which can't read it"))?;
        return Ok(Outcome { worked: true, ..Outcome::default() });
    };
    let after = job.cursor.as_deref().and_then(|id| id.parse().ok());
    let found = match job.preview {
        Some(preview) => preview::next(conn, preview, after, CHUNK)?,
        None => selection.next(conn, job.created_us, after, CHUNK, BOUNDS)?,
    };
    let (ids, changed) = part_changed(conn, &selection, found.ids)?;
    let mut done = act(conn, &job, &ids, outbox)?;
    done.skipped.extend(changed);
    let (acted, skipped) = (done.done.len(), done.skipped.len());
    model::note(conn, &notes(job.seq, done))?;
    job.done += i64::try_from(acted).unwrap_or(i64::MAX);
    job.skipped += i64::try_from(skipped).unwrap_or(i64::MAX);
    job.started_us = job.started_us.or(Some(now));
    match found.next {
        Some(next) => {
            job.state = JobState::Running;
            job.cursor = Some(next.to_string());
            model::save(conn, &job)?;
        }
        None => end(conn, &mut job, JobState::Done, now, None)?,
    }
    Ok(Outcome { worked: true, done: acted, skipped })
}

/// An event that is left as it is, and why.
type Skipped = (EventId, String);

/// Parts what somebody resolved, or retried, since it was selected by whether it is resolved.
fn part_changed(
    conn: &mut Conn,
    selection: &Selection,
    ids: Vec<EventId>,
) -> QueryResult<(Vec<EventId>, Vec<Skipped>)> {
    let Selection::Filter(EventFilter { resolved: Some(wanted), .. }) = selection else {
        return Ok((ids, Vec::new()));
    };
    // The other statuses are told apart where the rows are locked.
    let changed =
        |row: &Found| row.status() == Status::Exhausted && row.resolved_at().is_some() != *wanted;
    let rows = Found::load(conn, &ids)?;
    let changed: HashSet<EventId> =
        rows.into_iter().filter(changed).map(|row| row.head.id).collect();
    let (changed, ids) = ids.into_iter().partition::<Vec<_>, _>(|id| changed.contains(id));
    let why = if *wanted { "it is not resolved any more" } else { "it is resolved by now" };
    Ok((ids, changed.into_iter().map(|id| (id, why.to_owned())).collect()))
}

fn act(conn: &mut Conn, job: &Job, ids: &[EventId], outbox: &Outbox) -> QueryResult<ActionOutcome> {
    if ids.is_empty() {
        return Ok(ActionOutcome::default());
    }
    let action = match job.action {
        Action::Retry => OperatorAction::Retry { more_attempts: job.attempts.unwrap_or(1) },
        Action::Resolve => OperatorAction::Resolve,
    };
    // Only now: the walk before is best left to the planner, the rest is what the loop does.
    conn.plan_by_index()?;
    act_on_all(conn, outbox, ids, &action, &actor_of(job), job.reason.as_deref())
}

fn notes(job: i64, done: ActionOutcome) -> Vec<Item> {
    let acted = done.done.into_iter().map(|event_id| Item { job, event_id, skipped: None });
    let skipped =
        done.skipped.into_iter().map(|(event_id, why)| Item { job, event_id, skipped: Some(why) });
    acted.chain(skipped).collect()
}

fn end(
    conn: &mut Conn,
    job: &mut Job,
    state: JobState,
    now: Timestamp,
    by: Option<&str>,
) -> QueryResult<()> {
    job.state = state;
    job.ended_us = Some(now);
    job.ended_by = by.map(str::to_owned);
    model::save(conn, job)?;
    let detail = serde_json::json!({
        "state": state.name(), "expected": job.expected, "done": job.done, "skipped": job.skipped,
    });
    let by = Actor { name: job.created_by.clone(), method: AuthMethod::of_name(&job.created_via) };
    let entry = by.entry(now, "job.end", Some(&job.seq.to_string()), Some(detail));
    audit::append(conn, &entry)
}
