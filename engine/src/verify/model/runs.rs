//! The table `verification`: its rows and every statement on them.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, database_now};
use common::on;
use common::schema::verification;
use common::stored_by_code;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::SmallInt;
use serde::Serialize;
use utoipa::ToSchema;

/// What stands in place of how somebody was authenticated where nobody asked for a verification.
pub const SCHEDULED: &str = "schedule";

/// The same for one that a filling asks for: what it finds is mended by the filling, and is nobody's business else.
pub const FILLING: &str = "filling";

/// How long an instance holds a verification after its rest, without saying so again: one that was killed is followed by
/// another one soon, and one that only takes longer finds what it did not kept.
const HOLD: Duration = Duration::from_secs(40);

/// How far a verification is, or how it ended.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    ToSchema,
    AsExpression,
    FromSqlRow,
)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "snake_case")]
#[schema(as = VerificationState)]
pub enum State {
    /// Nothing of it is done yet.
    Waiting,
    /// Ranges are compared.
    Comparing,
    /// Keys that differed are looked at again.
    LookingAgain,
    /// The copy is what its owner has.
    Equal,
    /// It is not.
    Different,
    /// It could not be found out.
    Unknown,
    /// A person stopped it.
    Cancelled,
}

stored_by_code!(State {
    Waiting => 0, Comparing => 1, LookingAgain => 2, Equal => 3, Different => 4, Unknown => 5, Cancelled => 6,
});

impl State {
    /// Whether there is more to do.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Comparing | Self::LookingAgain)
    }

    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Comparing => "comparing",
            Self::LookingAgain => "looking_again",
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A verification to be put down.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = verification)]
pub struct NewVerification {
    /// Of which consumer.
    pub consumer: String,
    /// Only the differences of that verification; none: every key.
    pub keys_of: Option<i64>,
    /// How much of the time it may work, in thousandths.
    pub share: i32,
    /// How far it is.
    pub state: State,
    /// When it was asked for.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
}

/// A verification.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = verification)]
pub struct Verification {
    /// Its number.
    pub seq: i64,
    /// Of which consumer.
    pub consumer: String,
    /// Only the differences of that verification; none: every key.
    pub keys_of: Option<i64>,
    /// How much of the time it may work, in thousandths.
    pub share: i32,
    /// How far it is, or how it ended.
    pub state: State,
    /// The key up to which ranges are compared.
    pub cursor: Option<String>,
    /// The owner's keys that are compared.
    pub keys: i64,
    /// Keys that differ.
    pub differences: i64,
    /// Keys whose events were open at its end.
    pub waiting: i64,
    /// Whether more keys differ than are listed.
    pub cut: bool,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
    /// When its first step was made: what was committed before is compared.
    pub started_us: Option<Timestamp>,
    /// When the last range was compared.
    pub compared_us: Option<Timestamp>,
    /// When the consumer answered last.
    pub answered_us: Option<Timestamp>,
    /// When it ended.
    pub ended_us: Option<Timestamp>,
    /// Who cancelled it.
    pub ended_by: Option<String>,
    /// Which instance works on it.
    pub holder: Option<String>,
}

/// Adds a verification and returns its number; none if one of all keys of that consumer is under way.
///
/// # Errors
/// When the statement fails.
pub fn insert(conn: &mut Conn, new: &NewVerification) -> QueryResult<Option<i64>> {
    on!(conn, c => diesel::insert_into(verification::table)
        .values(new)
        .on_conflict_do_nothing()
        .returning(verification::seq)
        .get_result(c)
        .optional())
}

/// The same, and one of that consumer which nobody asked for gives way; none while one that somebody asked for is under
/// way.
///
/// # Errors
/// When a statement fails.
pub fn insert_before_scheduled(conn: &mut Conn, new: &NewVerification) -> QueryResult<Option<i64>> {
    if let Some(seq) = insert(conn, new)? {
        return Ok(Some(seq));
    }
    match under_way(conn, &new.consumer)? {
        Some(open) if open.created_via == SCHEDULED => {
            cancel(conn, open.seq, new.created_us, &new.created_by)?;
            insert(conn, new)
        }
        _ => Ok(None),
    }
}

/// One verification.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<Verification>> {
    on!(conn, c => verification::table
        .find(seq)
        .select(Verification::as_select())
        .first(c)
        .optional())
}

/// Up to `limit` verifications, newest first, with numbers below `before`; `consumer` keeps to one.
///
/// # Errors
/// When the statement fails.
pub fn list(
    conn: &mut Conn,
    consumer: Option<&str>,
    before: i64,
    limit: i64,
) -> QueryResult<Vec<Verification>> {
    on!(conn, c => {
        let mut rows = verification::table.filter(verification::seq.lt(before)).into_boxed();
        if let Some(consumer) = consumer {
            rows = rows.filter(verification::consumer.eq(consumer));
        }
        rows.order(verification::seq.desc())
            .limit(limit)
            .select(Verification::as_select())
            .load(c)
    })
}

/// The newest verification of all keys (of one consumer) that came to its end by itself.
///
/// # Errors
/// When the statement fails.
pub fn latest(conn: &mut Conn, consumer: Option<&str>) -> QueryResult<Option<Verification>> {
    use verification as v;
    on!(conn, c => {
        let mut rows = v::table
            .filter(v::ended_us.is_not_null().and(v::keys_of.is_null()))
            .filter(v::state.ne(State::Cancelled))
            .into_boxed();
        if let Some(consumer) = consumer {
            rows = rows.filter(v::consumer.eq(consumer));
        }
        rows.order(v::seq.desc()).select(Verification::as_select()).first(c).optional()
    })
}

/// The verification of all keys of a consumer that is under way.
///
/// # Errors
/// When the statement fails.
pub fn under_way(conn: &mut Conn, consumer: &str) -> QueryResult<Option<Verification>> {
    on!(conn, c => verification::table
        .filter(verification::consumer.eq(consumer))
        .filter(verification::ended_us.is_null().and(verification::keys_of.is_null()))
        .select(Verification::as_select())
        .first(c)
        .optional())
}

/// Stops a verification that is not at its end; returns whether it was.
///
/// # Errors
/// When the statement fails.
pub fn cancel(conn: &mut Conn, seq: i64, now: Timestamp, by: &str) -> QueryResult<bool> {
    use verification as v;
    let open = v::table.find(seq).filter(v::ended_us.is_null());
    let ended =
        (v::state.eq(State::Cancelled), v::ended_us.eq(Some(now)), v::ended_by.eq(Some(by)));
    Ok(on!(conn, c => diesel::update(open).set(ended).execute(c))? == 1)
}

/// Takes the verification that is next for `holder`: one of few keys before one of all. One that another instance holds
/// is passed by.
pub(in crate::verify) fn take(
    conn: &mut Conn,
    holder: &str,
    at: Timestamp,
) -> QueryResult<Option<Verification>> {
    use verification as v;
    let now = database_now(conn)?;
    let free = v::held_until_us.lt(now).or(v::holder.is_null()).or(v::holder.eq(holder));
    let open = v::table
        .filter(v::ended_us.is_null().and(free))
        .order((v::keys_of.is_null(), v::share.desc(), v::seq))
        .limit(1);
    let found: Option<Verification> = match conn {
        Conn::Pg(c) => open
            .select(Verification::as_select())
            .for_update()
            .skip_locked()
            .get_result(c)
            .optional()?,
        Conn::Sqlite(c) => open.select(Verification::as_select()).get_result(c).optional()?,
    };
    if let Some(found) = &found {
        hold(conn, found.seq, holder, Timestamp::from_micros(now))?;
        // At once: patience counts from here, whatever becomes of the step.
        let begun = v::table.find(found.seq).filter(v::started_us.is_null());
        on!(conn, c => diesel::update(begun).set(v::started_us.eq(Some(at))).execute(c))?;
    }
    Ok(found)
}

/// Holds a verification of `holder` for the time of a rest, too.
pub(in crate::verify) fn rest(
    conn: &mut Conn,
    seq: i64,
    holder: &str,
    rest: Duration,
) -> QueryResult<()> {
    let now = Timestamp::from_micros(database_now(conn)?);
    hold(conn, seq, holder, now.after(rest))
}

fn hold(conn: &mut Conn, seq: i64, holder: &str, from: Timestamp) -> QueryResult<()> {
    use verification as v;
    let until = from.after(HOLD).micros();
    let held = (v::holder.eq(Some(holder)), v::held_until_us.eq(until));
    on!(conn, c => diesel::update(v::table.find(seq)).set(held).execute(c))?;
    Ok(())
}

/// Writes back how far a verification is; false: it was cancelled, or another instance holds it by now.
pub(in crate::verify) fn save(
    conn: &mut Conn,
    row: &Verification,
    holder: &str,
) -> QueryResult<bool> {
    use verification as v;
    let own = v::table.find(row.seq).filter(v::ended_us.is_null().and(v::holder.eq(holder)));
    let change = (
        v::state.eq(row.state),
        v::cursor.eq(row.cursor.as_deref()),
        v::keys.eq(row.keys),
        v::differences.eq(row.differences),
        v::waiting.eq(row.waiting),
        v::cut.eq(row.cut),
        v::reason.eq(row.reason.as_deref()),
        v::started_us.eq(row.started_us),
        v::compared_us.eq(row.compared_us),
        v::answered_us.eq(row.answered_us),
        v::ended_us.eq(row.ended_us),
    );
    Ok(on!(conn, c => diesel::update(own).set(change).execute(c))? == 1)
}
