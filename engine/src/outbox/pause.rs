//! What the relay leaves alone until an operator says otherwise: single keys, or everything.
//!
//! A paused event stays PENDING and costs no attempt. What is on its way already is not called back.

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::relay_pause;
use diesel::prelude::*;

/// The key that stands for all keys: no event has it.
pub const EVERYTHING: &str = "";

/// Keys that may be paused one by one; more than that is a case for pausing everything.
pub const MAX_KEYS: i64 = 1_000;

/// A pause; the row as it is read and as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = relay_pause)]
pub struct PauseRow {
    /// The key, or [`EVERYTHING`].
    pub key: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since_us: Timestamp,
    /// Who gave the reason.
    pub by_whom: String,
}

/// What is paused now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Paused {
    pub(super) everything: bool,
    pub(super) keys: Vec<String>,
}

impl Paused {
    /// Of these keys, in their order.
    pub(super) fn of(mut keys: Vec<String>) -> Self {
        let all = keys.len();
        keys.retain(|key| key != EVERYTHING);
        Self { everything: keys.len() < all, keys }
    }
}

/// Pauses a key, or changes the reason of a pause; returns whether it is new. It keeps its `since_us`.
///
/// # Errors
/// When a statement fails.
pub fn put(conn: &mut Conn, row: &PauseRow) -> QueryResult<bool> {
    let is_new = find(conn, &row.key)?.is_none();
    on!(conn, c => diesel::insert_into(relay_pause::table)
        .values(row)
        .on_conflict(relay_pause::key)
        .do_update()
        .set((relay_pause::reason.eq(&row.reason), relay_pause::by_whom.eq(&row.by_whom)))
        .execute(c))?;
    Ok(is_new)
}

/// Ends a pause; returns whether there was one. The caller wakes the relay once that is committed.
///
/// # Errors
/// When the statement fails.
pub fn end(conn: &mut Conn, key: &str) -> QueryResult<bool> {
    let ended = on!(conn, c => diesel::delete(relay_pause::table.find(key)).execute(c))?;
    Ok(ended > 0)
}

/// The pause of a key, or of [`EVERYTHING`].
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, key: &str) -> QueryResult<Option<PauseRow>> {
    on!(conn, c => relay_pause::table
        .find(key)
        .select(PauseRow::as_select())
        .first(c)
        .optional())
}

/// Pauses of single keys, by key, beginning behind the key `after` (empty: at the start).
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, after: &str, limit: i64) -> QueryResult<Vec<PauseRow>> {
    on!(conn, c => relay_pause::table
        .filter(relay_pause::key.gt(after))
        .order(relay_pause::key)
        .limit(limit)
        .select(PauseRow::as_select())
        .load(c))
}

/// How many single keys are paused.
///
/// # Errors
/// When the statement fails.
pub fn count(conn: &mut Conn) -> QueryResult<i64> {
    let keys = relay_pause::table.filter(relay_pause::key.gt(EVERYTHING));
    on!(conn, c => keys.count().get_result(c))
}

/// All of it; where nothing is paused, a look into an empty table.
pub(super) fn all(conn: &mut Conn) -> QueryResult<Paused> {
    let keys: Vec<String> = on!(conn, c => relay_pause::table
        .select(relay_pause::key)
        .order(relay_pause::key)
        .load(c))?;
    Ok(Paused::of(keys))
}
