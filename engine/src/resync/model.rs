//! The tables `resync_job` and `resync_skipped`: their rows and every statement on them.

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, database_now};
use common::ids::EventId;
use common::on;
use common::schema::{outbox_pending, outbox_sent, resync_job, resync_skipped};
use diesel::prelude::*;

use super::into_topic::{self, Readiness};
use super::{ResyncKind, replay};
use crate::bulk::JobState;

/// So many open jobs are looked at for one that can be worked on.
const CHOSEN_FROM: i64 = 100;

/// A job to be put down.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = resync_job)]
pub struct NewResync {
    /// Why.
    pub kind: ResyncKind,
    /// Which keys: a [`super::ResyncSelection`] as JSON.
    pub selection: String,
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// How many keys it is for, if that is known.
    pub expected: Option<i64>,
    /// When it was asked for.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = resync_job)]
pub struct ResyncJob {
    /// Its number.
    pub seq: i64,
    /// Why.
    pub kind: ResyncKind,
    /// Which keys: a [`super::ResyncSelection`] as JSON.
    pub selection: String,
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// How many keys it is for, if that is known.
    pub expected: Option<i64>,
    /// Keys whose states were sent again so far; of a replay, the states.
    pub done: i64,
    /// Keys that were left as they are so far.
    pub skipped: i64,
    /// Where it has got to, as its steps read it; [`ResyncJob::reached`] tells it to people.
    pub cursor: Option<String>,
    /// The verification that it ended with.
    pub verification: Option<i64>,
    /// When it was asked for.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
    /// When its first step was made.
    pub started_us: Option<Timestamp>,
    /// When it ended.
    pub ended_us: Option<Timestamp>,
    /// Who cancelled it.
    pub ended_by: Option<String>,
}

impl ResyncJob {
    /// The key that it has got to, and, where a replay goes on with that key, the last version of it that was sent.
    pub fn reached(&self) -> (Option<String>, Option<i64>) {
        match self.kind {
            ResyncKind::Replay => replay::reached(self.cursor.as_deref()),
            _ => (self.cursor.clone(), None),
        }
    }

    /// Why a replay into another topic, which is not at its end, could not send its next states the last time.
    pub fn hindered(&self) -> Option<String> {
        match self.kind {
            ResyncKind::Replay if self.state.is_open() => {
                into_topic::hindered(self.cursor.as_deref())
            }
            _ => None,
        }
    }
}

/// A key that a job left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = resync_skipped)]
pub struct Skipped {
    /// Which job.
    pub job: i64,
    /// Which key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// Adds a job and returns its number; the caller calls [`super::Resync::wake`] once that is committed.
///
/// # Errors
/// When the statement fails.
pub fn insert(conn: &mut Conn, job: &NewResync) -> QueryResult<i64> {
    on!(conn, c => diesel::insert_into(resync_job::table)
        .values(job)
        .returning(resync_job::seq)
        .get_result(c))
}

/// One job.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<ResyncJob>> {
    on!(conn, c => resync_job::table
        .find(seq)
        .select(ResyncJob::as_select())
        .first(c)
        .optional())
}

/// Up to `limit` jobs, newest first, with numbers below `before`.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, before: i64, limit: i64) -> QueryResult<Vec<ResyncJob>> {
    on!(conn, c => resync_job::table
        .filter(resync_job::seq.lt(before))
        .order(resync_job::seq.desc())
        .limit(limit)
        .select(ResyncJob::as_select())
        .load(c))
}

/// Keys that a job left as they are, in their order behind `after`.
///
/// # Errors
/// When the statement fails.
pub fn skipped(conn: &mut Conn, job: i64, after: &str, limit: i64) -> QueryResult<Vec<Skipped>> {
    use resync_skipped as s;
    on!(conn, c => s::table
        .filter(s::job.eq(job).and(s::key.gt(after)))
        .order(s::key)
        .limit(limit)
        .select(Skipped::as_select())
        .load(c))
}

/// Stops a job that is not at its end; returns whether it was. It waits for a step that is under way, but not for a page
/// on its way into another topic, which still arrives.
///
/// # Errors
/// When the statement fails.
pub fn cancel(conn: &mut Conn, seq: i64, now: Timestamp, by: &str) -> QueryResult<bool> {
    let open = resync_job::table.find(seq).filter(resync_job::state.lt(JobState::Done));
    let ended = (
        resync_job::state.eq(JobState::Cancelled),
        resync_job::ended_us.eq(Some(now)),
        resync_job::ended_by.eq(Some(by)),
    );
    Ok(on!(conn, c => diesel::update(open).set(ended).execute(c))? == 1)
}

/// The oldest job that can be worked on now, locked until the transaction ends; one that another works on, or that rests
/// after a failure, is passed by. With `free_first`, those that nothing hinders come before those that could not get on.
///
/// Replays come after all others: present states before those of the past, and a replay may have many steps. One that had
/// to stop in the middle goes on by its row.
pub(super) fn take(conn: &mut Conn, free_first: bool) -> QueryResult<Option<ResyncJob>> {
    use resync_job as j;
    let open = j::table
        .filter(j::state.lt(JobState::Done))
        .order((j::kind.eq(ResyncKind::Replay), j::seq))
        .limit(CHOSEN_FROM)
        .select((j::seq, j::kind, j::cursor));
    let open: Vec<(i64, ResyncKind, Option<String>)> = on!(&mut *conn, c => open.load(c))?;
    if open.is_empty() {
        return Ok(None);
    }
    let now = Timestamp::from_micros(database_now(conn)?);
    let open =
        open.into_iter().map(|(seq, kind, cursor)| (readiness(kind, cursor.as_deref(), now), seq));
    let mut open: Vec<_> = open.filter(|(ready, _)| *ready != Readiness::Waits).collect();
    if free_first {
        // The sort is stable.
        open.sort_by_key(|(ready, _)| *ready);
    }
    for (_, seq) in open {
        let Some(job) = lock_free(conn, seq)? else { continue };
        // Another may have begun with it in between, by a later clock.
        let now = Timestamp::from_micros(database_now(conn)?);
        if readiness(job.kind, job.cursor.as_deref(), now) != Readiness::Waits {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

fn readiness(kind: ResyncKind, cursor: Option<&str>, now: Timestamp) -> Readiness {
    match kind {
        ResyncKind::Replay => into_topic::readiness(cursor, now),
        _ => Readiness::Free,
    }
}

/// One open job, locked until the transaction ends; none where another has locked it, or it has ended.
fn lock_free(conn: &mut Conn, seq: i64) -> QueryResult<Option<ResyncJob>> {
    let open =
        resync_job::table.filter(resync_job::seq.eq(seq).and(resync_job::state.lt(JobState::Done)));
    match conn {
        Conn::Pg(c) => {
            open.select(ResyncJob::as_select()).for_update().skip_locked().get_result(c).optional()
        }
        Conn::Sqlite(c) => open.select(ResyncJob::as_select()).get_result(c).optional(),
    }
}

/// One job, locked until the transaction ends.
pub(super) fn lock(conn: &mut Conn, seq: i64) -> QueryResult<Option<ResyncJob>> {
    let job = resync_job::table.filter(resync_job::seq.eq(seq));
    match conn {
        Conn::Pg(c) => job.select(ResyncJob::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => job.select(ResyncJob::as_select()).get_result(c).optional(),
    }
}

/// Notes keys that were left as they are, each once; returns how many of them were not noted before.
pub(super) fn note(conn: &mut Conn, rows: &[Skipped]) -> QueryResult<usize> {
    let mut noted = 0;
    for chunk in rows.chunks(ROWS_PER_INSERT) {
        noted += match conn {
            Conn::Pg(c) => diesel::insert_into(resync_skipped::table)
                .values(chunk)
                .on_conflict_do_nothing()
                .execute(c)?,
            Conn::Sqlite(c) => {
                diesel::insert_or_ignore_into(resync_skipped::table).values(chunk).execute(c)?
            }
        };
    }
    Ok(noted)
}

/// Writes back how far a job is; it was locked in this transaction.
pub(super) fn save(conn: &mut Conn, job: &ResyncJob) -> QueryResult<()> {
    let change = (
        resync_job::state.eq(job.state),
        resync_job::done.eq(job.done),
        resync_job::skipped.eq(job.skipped),
        resync_job::cursor.eq(job.cursor.as_deref()),
        resync_job::verification.eq(job.verification),
        resync_job::started_us.eq(job.started_us),
        resync_job::ended_us.eq(job.ended_us),
        resync_job::ended_by.eq(job.ended_by.as_deref()),
    );
    on!(conn, c => diesel::update(resync_job::table.find(job.seq)).set(change).execute(c))?;
    Ok(())
}

/// Those of `events` that still wait for their first send, or, if `answered` says so, for their answer.
pub(super) fn on_its_way(
    conn: &mut Conn,
    events: &[EventId],
    answered: bool,
) -> QueryResult<Vec<EventId>> {
    use {outbox_pending as p, outbox_sent as s};
    let waiting = p::table.filter(p::id.eq_any(events)).select(p::id);
    let mut open: Vec<EventId> = on!(&mut *conn, c => waiting.load(c))?;
    if answered {
        let sent = s::table.filter(s::id.eq_any(events)).select(s::id);
        open.extend(on!(conn, c => sent.load::<EventId>(c))?);
    }
    Ok(open)
}
