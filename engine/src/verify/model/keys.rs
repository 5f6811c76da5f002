//! The table `verification_key`: its rows and every statement on them.

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT};
use common::ids::EventId;
use common::on;
use common::schema::verification_key;
use common::stored_by_name;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::Text;
use utoipa::ToSchema;

use super::super::judge::Difference;
use super::super::verifier::LOOKS;

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

/// Keys that are to be looked at again by now, those that are due longest first.
pub(in crate::verify) fn due(
    conn: &mut Conn,
    seq: i64,
    now: Timestamp,
    limit: i64,
) -> QueryResult<Vec<KeyFinding>> {
    use verification_key as k;
    on!(conn, c => k::table
        .filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)))
        .filter(k::due_us.le(now).or(k::due_us.gt(now.latest(LOOKS.max))))
        .order(k::due_us)
        .limit(limit)
        .select(KeyFinding::as_select())
        .load(c))
}

/// How many keys are still to be looked at again, as far as `limit`.
pub(in crate::verify) fn undecided(conn: &mut Conn, seq: i64, limit: i64) -> QueryResult<i64> {
    use verification_key as k;
    let keys = k::table
        .filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)))
        .select(k::key)
        .limit(limit);
    let keys: Vec<String> = on!(conn, c => keys.load(c))?;
    Ok(i64::try_from(keys.len()).unwrap_or(i64::MAX))
}

/// Writes what was found of keys, each once, whatever was found before.
pub(in crate::verify) fn note(conn: &mut Conn, findings: &[KeyFinding]) -> QueryResult<()> {
    use verification_key as k;
    for chunk in findings.chunks(ROWS_PER_INSERT) {
        let seq = chunk.first().map_or(0, |one| one.verification);
        forget(conn, seq, chunk.iter().map(|one| one.key.as_str()))?;
        on!(&mut *conn, c => diesel::insert_into(k::table).values(chunk).execute(c))?;
    }
    Ok(())
}

/// Takes keys off the list: they are equal.
pub(in crate::verify) fn forget<'a>(
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
pub(in crate::verify) fn leave_waiting(conn: &mut Conn, seq: i64) -> QueryResult<usize> {
    use verification_key as k;
    let undecided = k::table.filter(k::verification.eq(seq).and(k::finding.eq(Finding::Moving)));
    on!(conn, c => diesel::update(undecided).set(k::finding.eq(Finding::Waiting)).execute(c))
}

/// Lists the differences of `earlier` in `seq`, to be looked at now.
pub(in crate::verify) fn take_over(
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
