//! The tables `verification` and `verification_key`: their rows and every statement on them.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, database_now};
use common::ids::EventId;
use common::on;
use common::schema::{verification, verification_key};
use common::{stored_by_code, stored_by_name};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{SmallInt, Text};
use serde::Serialize;
use utoipa::ToSchema;

use super::judge::Difference;

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

/// What was found of a key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ToSchema, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = Text)]
#[schema(rename_all = "lowercase")]
pub enum Finding {
    /// Nothing yet: it has to be looked at again.
    Moving,
    /// Its event was open at the end.
    Waiting,
    /// The owner has it, the copy does not.
    Missing,
    /// The copy has it, the owner never did.
    Unknown,
    /// The copy has an older version.
    Older,
    /// The copy has a newer version than its owner ever made.
    Newer,
    /// The version is the same, and the content is not.
    Content,
}

stored_by_name!(Finding {
    Moving => "moving", Waiting => "waiting", Missing => "missing", Unknown => "unknown", Older => "older",
    Newer => "newer", Content => "content",
});

impl Finding {
    /// Whether the copy is not what its owner has.
    pub const fn is_difference(self) -> bool {
        !matches!(self, Self::Moving | Self::Waiting)
    }
}

impl From<Difference> for Finding {
    fn from(difference: Difference) -> Self {
        match difference {
            Difference::Missing => Self::Missing,
            Difference::Unknown => Self::Unknown,
            Difference::Older => Self::Older,
            Difference::Newer => Self::Newer,
            Difference::Content => Self::Content,
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

/// A key that differs, or has to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = verification_key, treat_none_as_default_value = false)]
pub struct KeyFinding {
    /// In which verification.
    pub verification: i64,
    /// Which.
    pub key: String,
    /// What was found.
    pub finding: Finding,
    /// How often it was looked at.
    pub looks: i32,
    /// When to look again.
    pub due_us: Timestamp,
    /// The owner's version.
    pub owner_version: Option<i64>,
    /// Whether the owner has a tombstone.
    pub owner_removed: Option<bool>,
    /// The epoch of the copy's version.
    pub copy_epoch: Option<i64>,
    /// The copy's version.
    pub copy_version: Option<i64>,
    /// Whether the copy has a tombstone.
    pub copy_removed: Option<bool>,
    /// The event of the key that is open.
    pub event_id: Option<EventId>,
    /// When that was found.
    pub found_us: Timestamp,
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

/// Keys of a verification in their order, behind `after`; differences, or else those that waited at its end.
///
/// # Errors
/// When the statement fails.
pub fn findings(
    conn: &mut Conn,
    seq: i64,
    differences: bool,
    after: &str,
    limit: i64,
) -> QueryResult<Vec<KeyFinding>> {
    use verification_key as k;
    on!(conn, c => {
        let mut rows = k::table.filter(k::verification.eq(seq)).into_boxed();
        // Somebody may have written an empty key, which comes first.
        if !after.is_empty() {
            rows = rows.filter(k::key.gt(after));
        }
        let rows = match differences {
            true => rows.filter(k::finding.ne_all([Finding::Moving, Finding::Waiting])),
            false => rows.filter(k::finding.eq(Finding::Waiting)),
        };
        rows.order(k::key).limit(limit).select(KeyFinding::as_select()).load(c)
    })
}

/// How many keys of a verification have each finding.
///
/// # Errors
/// When the statement fails.
pub fn counts(conn: &mut Conn, seq: i64) -> QueryResult<Vec<(Finding, i64)>> {
    use verification_key as k;
    on!(conn, c => k::table
        .filter(k::verification.eq(seq))
        .group_by(k::finding)
        .order(k::finding)
        .select((k::finding, diesel::dsl::count_star()))
        .load(c))
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
pub(super) fn take(
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
pub(super) fn rest(conn: &mut Conn, seq: i64, holder: &str, rest: Duration) -> QueryResult<()> {
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
pub(super) fn save(conn: &mut Conn, row: &Verification, holder: &str) -> QueryResult<bool> {
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

/// Keys that are to be looked at again by now, those that are due longest first.
pub(super) fn due(
    conn: &mut Conn,
    seq: i64,
    now: Timestamp,
    limit: i64,
) -> QueryResult<Vec<KeyFinding>> {
    use verification_key as k;
    on!(conn, c => k::table
        .filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)))
        .filter(k::due_us.le(now))
        .order(k::due_us)
        .limit(limit)
        .select(KeyFinding::as_select())
        .load(c))
}

/// How many keys are still to be looked at again, as far as `limit`.
pub(super) fn undecided(conn: &mut Conn, seq: i64, limit: i64) -> QueryResult<i64> {
    use verification_key as k;
    let keys = k::table
        .filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)))
        .select(k::key)
        .limit(limit);
    let keys: Vec<String> = on!(conn, c => keys.load(c))?;
    Ok(i64::try_from(keys.len()).unwrap_or(i64::MAX))
}

/// Writes what was found of keys, each once, whatever was found before.
pub(super) fn note(conn: &mut Conn, findings: &[KeyFinding]) -> QueryResult<()> {
    use verification_key as k;
    for chunk in findings.chunks(ROWS_PER_INSERT) {
        let seq = chunk.first().map_or(0, |one| one.verification);
        forget(conn, seq, chunk.iter().map(|one| one.key.as_str()))?;
        on!(&mut *conn, c => diesel::insert_into(k::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Takes keys off the list: they are equal.
pub(super) fn forget<'a>(
    conn: &mut Conn,
    seq: i64,
    keys: impl Iterator<Item = &'a str>,
) -> QueryResult<()> {
    use verification_key as k;
    let keys: Vec<&str> = keys.collect();
    for chunk in keys.chunks(ROWS_PER_INSERT) {
        let rows = k::table.filter(k::verification.eq(seq).and(k::key.eq_any(chunk)));
        on!(&mut *conn, c => diesel::delete(rows).execute(c))?;
    }
    Ok(())
}

/// What is undecided at the end of a verification waits for events that are open.
pub(super) fn leave_waiting(conn: &mut Conn, seq: i64) -> QueryResult<usize> {
    use verification_key as k;
    let undecided = k::table.filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)));
    on!(conn, c => diesel::update(undecided).set(k::finding.eq(Finding::Waiting)).execute(c))
}

/// Lists the differences of `earlier` in `seq`, to be looked at now.
pub(super) fn take_over(
    conn: &mut Conn,
    seq: i64,
    earlier: i64,
    after: &str,
    limit: i64,
    now: Timestamp,
) -> QueryResult<Option<String>> {
    let found = findings(conn, earlier, true, after, limit)?;
    let again = |one: &KeyFinding| KeyFinding {
        verification: seq,
        finding: Finding::Moving,
        looks: 0,
        due_us: now,
        found_us: now,
        ..one.clone()
    };
    let again: Vec<KeyFinding> = found.iter().map(again).collect();
    note(conn, &again)?;
    Ok(found.last().map(|one| one.key.clone()))
}
