//! The tables `bulk_job` and `bulk_item`: their rows and every statement on them.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{bulk_item, bulk_job};
use common::{stored_by_code, stored_by_name};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{SmallInt, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a job does to each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobAction, rename_all = "lowercase")]
pub enum Action {
    /// Sends it again, with more attempts.
    Retry,
    /// Marks it as dealt with by other means.
    Resolve,
}

stored_by_name!(Action { Retry => "retry", Resolve => "resolve" });

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Nothing of it is done yet.
    Waiting,
    /// It is running.
    Running,
    /// It finished.
    Done,
    /// A person stopped it, or it could not be read; what was done stays done.
    Cancelled,
}

stored_by_code!(JobState { Waiting => 0, Running => 1, Done => 2, Cancelled => 3 });

impl JobState {
    /// Whether there is more to do.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }

    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job to be put down.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = bulk_job)]
pub struct NewJob {
    /// What to do.
    pub action: Action,
    /// To which events: a [`super::Selection`] as JSON.
    pub selection: String,
    /// Why.
    pub reason: Option<String>,
    /// Additional attempts; retries only.
    pub attempts: Option<i32>,
    /// How far it is.
    pub state: JobState,
    /// How many events the preview counted.
    pub expected: i64,
    /// When it was asked for.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
    /// The preview whose events it acts on, if one was taken before.
    pub preview: Option<i64>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = bulk_job)]
pub struct Job {
    /// Its number.
    pub seq: i64,
    /// What it does.
    pub action: Action,
    /// To which events: a [`super::Selection`] as JSON.
    pub selection: String,
    /// Why.
    pub reason: Option<String>,
    /// Additional attempts; retries only.
    pub attempts: Option<i32>,
    /// How far it is.
    pub state: JobState,
    /// How many events the preview counted.
    pub expected: i64,
    /// Events acted on so far.
    pub done: i64,
    /// Events left as they are so far.
    pub skipped: i64,
    /// The id that the walk has got to.
    pub cursor: Option<String>,
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
    /// The preview that lists its events; none: its selection does.
    pub preview: Option<i64>,
}

/// What a job did to an event.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = bulk_item, treat_none_as_default_value = false)]
pub struct Item {
    /// Which job.
    pub job: i64,
    /// Which event.
    pub event_id: EventId,
    /// Why it was left as it is; none: it was acted on.
    pub skipped: Option<String>,
}

/// The person behind a job, as an event's history names them.
pub(super) fn actor_of(job: &Job) -> String {
    format!("{} (job {})", job.created_by, job.seq)
}

/// Takes such a name apart: the person, and the job's number if it was one.
pub fn actor(name: &str) -> (String, Option<String>) {
    let parts = name.strip_suffix(')').and_then(|name| name.rsplit_once(" (job "));
    match parts.filter(|(_, job)| !job.is_empty() && job.bytes().all(|b| b.is_ascii_digit())) {
        Some((person, job)) => (person.to_owned(), Some(job.to_owned())),
        None => (name.to_owned(), None),
    }
}

/// Adds a job and returns its number.
pub(super) fn insert(conn: &mut Conn, job: &NewJob) -> QueryResult<i64> {
    on!(conn, c => diesel::insert_into(bulk_job::table)
        .values(job)
        .returning(bulk_job::seq)
        .get_result(c))
}

/// One job.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<Job>> {
    on!(conn, c => bulk_job::table.find(seq).select(Job::as_select()).first(c).optional())
}

/// Up to `limit` jobs, newest first, with numbers below `before`.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, before: i64, limit: i64) -> QueryResult<Vec<Job>> {
    on!(conn, c => bulk_job::table
        .filter(bulk_job::seq.lt(before))
        .order(bulk_job::seq.desc())
        .limit(limit)
        .select(Job::as_select())
        .load(c))
}

/// What a job did, newest event first, below the event `before`; `skipped` keeps to one kind.
///
/// # Errors
/// When the statement fails.
pub fn items(
    conn: &mut Conn,
    job: i64,
    skipped: Option<bool>,
    before: Option<EventId>,
    limit: i64,
) -> QueryResult<Vec<Item>> {
    on!(conn, c => {
        let mut items = bulk_item::table.filter(bulk_item::job.eq(job)).into_boxed();
        if let Some(before) = before {
            items = items.filter(bulk_item::event_id.lt(before));
        }
        match skipped {
            Some(true) => items = items.filter(bulk_item::skipped.is_not_null()),
            Some(false) => items = items.filter(bulk_item::skipped.is_null()),
            None => {}
        }
        items
            .order((bulk_item::job.desc(), bulk_item::event_id.desc()))
            .limit(limit)
            .select(Item::as_select())
            .load(c)
    })
}

/// Stops a job that is not at its end; returns whether it was. It waits for a step that is under way.
///
/// # Errors
/// When the statement fails.
pub fn cancel(conn: &mut Conn, seq: i64, now: Timestamp, by: &str) -> QueryResult<bool> {
    let open = bulk_job::table.find(seq).filter(bulk_job::state.lt(JobState::Done));
    let ended = (
        bulk_job::state.eq(JobState::Cancelled),
        bulk_job::ended_us.eq(Some(now)),
        bulk_job::ended_by.eq(Some(by)),
    );
    let changed = on!(conn, c => diesel::update(open).set(ended).execute(c))?;
    Ok(changed == 1)
}

/// The oldest job with something to do, locked until the transaction ends; one that another works on is passed by.
pub(super) fn take(conn: &mut Conn) -> QueryResult<Option<Job>> {
    let open =
        bulk_job::table.filter(bulk_job::state.lt(JobState::Done)).order(bulk_job::seq).limit(1);
    match conn {
        Conn::Pg(c) => {
            open.select(Job::as_select()).for_update().skip_locked().get_result(c).optional()
        }
        Conn::Sqlite(c) => open.select(Job::as_select()).get_result(c).optional(),
    }
}

/// Notes what was done to events, each of which a job meets once.
pub(super) fn note(conn: &mut Conn, items: &[Item]) -> QueryResult<()> {
    on!(conn, c => diesel::insert_into(bulk_item::table)
        .values(items)
        .execute(c))?;
    Ok(())
}

/// Writes back how far a job is; it was locked by [`take`] in this transaction.
pub(super) fn save(conn: &mut Conn, job: &Job) -> QueryResult<()> {
    let change = (
        bulk_job::state.eq(job.state),
        bulk_job::done.eq(job.done),
        bulk_job::skipped.eq(job.skipped),
        bulk_job::cursor.eq(job.cursor.as_deref()),
        bulk_job::started_us.eq(job.started_us),
        bulk_job::ended_us.eq(job.ended_us),
        bulk_job::ended_by.eq(job.ended_by.as_deref()),
    );
    on!(conn, c => diesel::update(bulk_job::table.find(job.seq)).set(change).execute(c))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::actor;

    #[test]
    fn a_person_and_their_job_are_told_apart() {
        for (name, person, job) in [
            ("anna", "anna", None),
            ("anna (job 7)", "anna", Some("7")),
            ("anna (job )", "anna (job )", None),
            ("anna (job x)", "anna (job x)", None),
        ] {
            assert_eq!(actor(name), (person.to_owned(), job.map(str::to_owned)));
        }
    }
}
