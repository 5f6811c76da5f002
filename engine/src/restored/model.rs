//! The table `restoration`: its rows and every statement on them.

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::restoration;
use common::stored_by_code;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::SmallInt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::step::AGAIN;
use crate::alerts::{self, NewAlert};

/// How far it is to mend what a database misses.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "snake_case")]
#[schema(as = RestorationState)]
pub enum State {
    /// The database is behind, and nobody has done anything about that.
    Found,
    /// What it misses is being mended.
    Running,
    /// The copy is what its owner has.
    Equal,
    /// The copy differs in what can't be mended so.
    Different,
    /// A person stopped it.
    Cancelled,
}

stored_by_code!(State { Found => 0, Running => 1, Equal => 2, Different => 3, Cancelled => 4 });

impl State {
    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Running => "running",
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A database that came back from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = restoration)]
pub struct Restoration {
    /// Its number.
    pub seq: i64,
    /// Whose database.
    pub service: String,
    /// How far it is.
    pub state: State,
    /// When it was found, or put down.
    pub found_us: Timestamp,
    /// When it took something last of what shows it: all that came before is in it.
    pub since_us: Option<Timestamp>,
    /// What shows that it is behind.
    pub detail: String,
    /// When a person had it mended.
    pub started_us: Option<Timestamp>,
    /// Who.
    pub started_by: Option<String>,
    /// How they were authenticated.
    pub started_via: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// What the owner's epoch was raised to.
    pub epoch: Option<i64>,
    /// The newest job that sends states again.
    pub job: Option<i64>,
    /// The newest verification.
    pub verification: Option<i64>,
    /// Whose copy is being proved, where this service owns the keys.
    pub consumer: Option<String>,
    /// Its number at the owner, where a copy asked for it.
    pub remote: Option<i64>,
    /// Repairs so far.
    pub rounds: i32,
    /// Keys that differed at the newest verification.
    pub differences: i64,
    /// Why it does not get on.
    pub waits_for: Option<String>,
    /// When to go on.
    pub due_us: Timestamp,
    /// When it ended.
    pub ended_us: Option<Timestamp>,
    /// When the service that sends commands is told next; none: it is told, or there is none.
    pub tell_us: Option<Timestamp>,
    /// Why it is not told yet.
    pub untold: Option<String>,
}

impl Restoration {
    /// Whether the database still misses something, and nobody is at it.
    pub fn is_behind(&self) -> bool {
        matches!(self.state, State::Found | State::Different | State::Cancelled)
    }
}

/// One to be put down.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = restoration)]
struct NewRestoration<'a> {
    service: &'a str,
    state: State,
    found_us: Timestamp,
    since_us: Option<Timestamp>,
    detail: &'a str,
    due_us: Timestamp,
}

/// Puts down that the database of `service` has taken nothing since `since`, as `detail` shows, and raises the alert;
/// false: that is known already.
///
/// # Errors
/// When a statement fails.
pub fn found(
    conn: &mut Conn,
    now: Timestamp,
    service: &str,
    since: Option<Timestamp>,
    detail: &str,
) -> QueryResult<bool> {
    if insert(conn, now, service, since, detail)?.is_none() {
        return Ok(false);
    }
    alerts::raise(conn, now, NewAlert::database_behind(service, since, detail))?;
    Ok(true)
}

/// Adds one that is found; none if one of that service is open.
pub(super) fn insert(
    conn: &mut Conn,
    now: Timestamp,
    service: &str,
    since: Option<Timestamp>,
    detail: &str,
) -> QueryResult<Option<i64>> {
    let new = NewRestoration {
        service,
        state: State::Found,
        found_us: now,
        since_us: since,
        detail,
        due_us: now,
    };
    on!(conn, c => diesel::insert_into(restoration::table)
        .values(&new)
        .on_conflict_do_nothing()
        .returning(restoration::seq)
        .get_result(c)
        .optional())
}

/// One of them.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<Restoration>> {
    on!(conn, c => restoration::table
        .find(seq)
        .select(Restoration::as_select())
        .first(c)
        .optional())
}

/// The newest one of a service.
///
/// # Errors
/// When the statement fails.
pub fn newest(conn: &mut Conn, service: &str) -> QueryResult<Option<Restoration>> {
    on!(conn, c => restoration::table
        .filter(restoration::service.eq(service))
        .order(restoration::seq.desc())
        .select(Restoration::as_select())
        .first(c)
        .optional())
}

/// The same, locked until the transaction ends.
pub(super) fn lock_newest(conn: &mut Conn, service: &str) -> QueryResult<Option<Restoration>> {
    use restoration as r;
    let newest = r::table.filter(r::service.eq(service)).order(r::seq.desc()).limit(1);
    match conn {
        Conn::Pg(c) => {
            newest.select(Restoration::as_select()).for_update().get_result(c).optional()
        }
        Conn::Sqlite(c) => newest.select(Restoration::as_select()).get_result(c).optional(),
    }
}

/// The one that is due, for whoever asks another service about it.
pub(super) fn due(conn: &mut Conn, now: Timestamp) -> QueryResult<Option<Restoration>> {
    use restoration as r;
    on!(conn, c => r::table
        .filter(r::ended_us.is_null().and(r::state.eq(State::Running)))
        .filter(r::due_us.le(now).or(r::due_us.gt(now.latest(AGAIN))))
        .order(r::due_us)
        .select(Restoration::as_select())
        .first(c)
        .optional())
}

/// The one that is next to be gone on with, locked until the transaction ends; one that another instance works on is
/// passed by.
pub(super) fn take(conn: &mut Conn, now: Timestamp) -> QueryResult<Option<Restoration>> {
    use restoration as r;
    let open = r::table
        .filter(r::ended_us.is_null().and(r::state.eq(State::Running)))
        .filter(r::due_us.le(now).or(r::due_us.gt(now.latest(AGAIN))))
        .order(r::due_us)
        .limit(1);
    match conn {
        Conn::Pg(c) => open
            .select(Restoration::as_select())
            .for_update()
            .skip_locked()
            .get_result(c)
            .optional(),
        Conn::Sqlite(c) => open.select(Restoration::as_select()).get_result(c).optional(),
    }
}

/// One that is being mended, as it is now and locked until the transaction ends; none if another instance ended it.
pub(super) fn lock_running(conn: &mut Conn, seq: i64) -> QueryResult<Option<Restoration>> {
    use restoration as r;
    let open = r::table
        .filter(r::seq.eq(seq))
        .filter(r::ended_us.is_null().and(r::state.eq(State::Running)));
    match conn {
        Conn::Pg(c) => open.select(Restoration::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => open.select(Restoration::as_select()).get_result(c).optional(),
    }
}

/// Whether any is to be gone on with, now or later.
pub(super) fn any_running(conn: &mut Conn) -> QueryResult<bool> {
    use restoration as r;
    let open = r::table.filter(r::ended_us.is_null().and(r::state.eq(State::Running)));
    on!(conn, c => open.select(r::seq).first::<i64>(c).optional()).map(|found| found.is_some())
}

/// Writes back how far one is; one that has ended stays so.
pub(super) fn save(conn: &mut Conn, row: &Restoration) -> QueryResult<()> {
    use restoration as r;
    let change = (
        r::state.eq(row.state),
        r::started_us.eq(row.started_us),
        r::started_by.eq(row.started_by.as_deref()),
        r::started_via.eq(row.started_via.as_deref()),
        r::reason.eq(row.reason.as_deref()),
        r::epoch.eq(row.epoch),
        r::job.eq(row.job),
        r::verification.eq(row.verification),
        r::consumer.eq(row.consumer.as_deref()),
        r::remote.eq(row.remote),
        r::rounds.eq(row.rounds),
        r::differences.eq(row.differences),
        r::waits_for.eq(row.waits_for.as_deref()),
        r::due_us.eq(row.due_us),
        r::ended_us.eq(row.ended_us),
        r::tell_us.eq(row.tell_us),
    );
    let open = r::table.find(row.seq).filter(r::ended_us.is_null());
    on!(conn, c => diesel::update(open).set(change).execute(c))?;
    Ok(())
}
