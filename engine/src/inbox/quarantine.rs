//! Keys whose events are answered FAILED, retryable, until an operator releases them.

use std::collections::HashMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::quarantine;
use diesel::prelude::*;

/// Keys looked up by one statement: below SQLite's limit on bind parameters.
const KEYS_PER_QUERY: usize = 10_000;

/// A key in quarantine; the row as it is read and as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = quarantine)]
pub struct QuarantineRow {
    /// The key: a SKU or an order id.
    pub key: String,
    /// Why, for whoever reads the failed answers.
    pub reason: String,
    /// Since when.
    pub since_us: Timestamp,
    /// Who gave the reason.
    pub by_whom: String,
}

/// Puts a key in quarantine, or changes the reason of one that is; returns whether it is new there.
///
/// A key that is there already keeps its `since_us`.
///
/// # Errors
/// When a statement fails.
pub fn put(conn: &mut Conn, row: &QuarantineRow) -> QueryResult<bool> {
    let is_new = find(conn, &row.key)?.is_none();
    // Another instance may put it in between: then the later reason holds.
    on!(conn, c => diesel::insert_into(quarantine::table)
        .values(row)
        .on_conflict(quarantine::key)
        .do_update()
        .set((quarantine::reason.eq(&row.reason), quarantine::by_whom.eq(&row.by_whom)))
        .execute(c))?;
    Ok(is_new)
}

/// Releases a key; returns whether it was in quarantine.
///
/// # Errors
/// When the statement fails.
pub fn release(conn: &mut Conn, key: &str) -> QueryResult<bool> {
    let released = on!(conn, c => diesel::delete(quarantine::table.find(key)).execute(c))?;
    Ok(released > 0)
}

/// One key's row, if it is in quarantine.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, key: &str) -> QueryResult<Option<QuarantineRow>> {
    on!(conn, c => quarantine::table
        .find(key)
        .select(QuarantineRow::as_select())
        .first(c)
        .optional())
}

/// Rows by key, at most `limit` of them, beginning behind the key `after` (empty: at the start).
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, after: &str, limit: i64) -> QueryResult<Vec<QuarantineRow>> {
    on!(conn, c => quarantine::table
        .filter(quarantine::key.gt(after))
        .order(quarantine::key)
        .limit(limit)
        .select(QuarantineRow::as_select())
        .load(c))
}

/// How many keys are in quarantine.
///
/// # Errors
/// When the statement fails.
pub fn count(conn: &mut Conn) -> QueryResult<i64> {
    on!(conn, c => quarantine::table.count().get_result(c))
}

/// Which of `keys` are in quarantine, each with its reason.
///
/// # Errors
/// When a statement fails.
pub fn among(conn: &mut Conn, keys: &[&str]) -> QueryResult<HashMap<String, String>> {
    let mut found = HashMap::new();
    for keys in keys.chunks(KEYS_PER_QUERY) {
        let rows: Vec<(String, String)> = on!(conn, c => quarantine::table
            .filter(quarantine::key.eq_any(keys))
            .select((quarantine::key, quarantine::reason))
            .load(c))?;
        found.extend(rows);
    }
    Ok(found)
}
