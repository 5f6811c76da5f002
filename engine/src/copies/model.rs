//! The table `copied_state`: its rows and every statement on it.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::{Backend, Conn};
use common::on;
use common::schema::copied_state;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;
use diesel::sql_types::Text;
use serde_json::json;

use super::{CopiedState, CopiedValue};
use crate::inbox::CopyVersion;
use crate::verify::{Keys, Select};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = copied_state)]
struct StateRow {
    key: String,
    removed: bool,
    epoch: i64,
    version: i64,
    updated_us: Timestamp,
    content: String,
}

impl From<StateRow> for CopiedState {
    fn from(row: StateRow) -> Self {
        let StateRow { key, removed, epoch, version, updated_us, content } = row;
        // What can't be read was written by hand: without content it differs from its owner's.
        let content: Vec<CopiedValue> = serde_json::from_str(&content).unwrap_or_default();
        let version = CopyVersion { epoch, version };
        Self { key, removed, version, updated_at: updated_us, content }
    }
}

/// The states of those of `keys` that there are, in the order of the keys; tombstones too.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, keys: &[String]) -> QueryResult<Vec<CopiedState>> {
    let rows: Vec<StateRow> = on!(conn, c => copied_state::table
        .filter(copied_state::key.eq_any(keys))
        .order(copied_state::key)
        .select(StateRow::as_select())
        .load(c))?;
    Ok(rows.into_iter().map(CopiedState::from).collect())
}

/// How far the copy is of those of `keys` that there are.
pub(super) fn versions(
    conn: &mut Conn,
    keys: &[&str],
) -> QueryResult<BTreeMap<String, CopyVersion>> {
    let rows: Vec<(String, i64, i64)> = on!(conn, c => copied_state::table
        .filter(copied_state::key.eq_any(keys))
        .select((copied_state::key, copied_state::epoch, copied_state::version))
        .load(c))?;
    let of = |(key, epoch, version)| (key, CopyVersion { epoch, version });
    Ok(rows.into_iter().map(of).collect())
}

/// The rows that a comparison asks for.
pub(super) fn select(conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<CopiedState>> {
    use copied_state as s;
    let rows: Vec<StateRow> = on!(conn, c => {
        let mut rows = s::table.into_boxed();
        match select.keys {
            Keys::Named(keys) => rows = rows.filter(s::key.eq_any(keys)),
            Keys::Between(after, up_to) => {
                let known = s::removed.eq(false).or(s::updated_us.ge(select.tombstones_since));
                rows = rows.filter(known);
                if let Some(after) = after {
                    rows = rows.filter(s::key.gt(after));
                }
                if let Some(up_to) = up_to {
                    rows = rows.filter(s::key.le(up_to));
                }
            }
        }
        rows.order(s::key).limit(select.limit).select(StateRow::as_select()).load(c)
    })?;
    Ok(rows.into_iter().map(CopiedState::from).collect())
}

/// The rows of one JSON document, whatever database reads it.
const fn rows_of_json(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => {
            "json_to_recordset($1::json) AS n \
             (key text, removed boolean, epoch bigint, version bigint, updated_us bigint, content text)"
        }
        Backend::Sqlite => {
            "(SELECT value ->> 'key' AS key, value ->> 'removed' AS removed, value ->> 'epoch' AS epoch, \
                value ->> 'version' AS version, value ->> 'updated_us' AS updated_us, \
                value ->> 'content' AS content FROM json_each($1)) AS n"
        }
    }
}

/// Writes those of `states` that are newer than what is there, in one statement, and returns their keys.
pub(super) fn upsert(conn: &mut Conn, states: &[&CopiedState]) -> QueryResult<BTreeSet<String>> {
    #[derive(QueryableByName)]
    struct Written {
        #[diesel(sql_type = Text)]
        key: String,
    }
    let sql = format!(
        "INSERT INTO copied_state (key, removed, epoch, version, updated_us, content) \
         SELECT n.key, n.removed, n.epoch, n.version, n.updated_us, n.content FROM {} WHERE true \
         ON CONFLICT (key) DO UPDATE SET removed = excluded.removed, epoch = excluded.epoch, \
           version = excluded.version, updated_us = excluded.updated_us, content = excluded.content \
         WHERE (copied_state.epoch, copied_state.version) < (excluded.epoch, excluded.version) \
         RETURNING key",
        rows_of_json(conn.backend())
    );
    let rows: Result<Vec<_>, serde_json::Error> =
        states.iter().map(|state| json_row(state)).collect();
    let rows = rows.and_then(|rows| serde_json::to_string(&rows));
    let rows = rows.map_err(|error| Error::SerializationError(Box::new(error)))?;
    let written: Vec<Written> = on!(conn, c => sql_query(sql).bind::<Text, _>(rows).load(c))?;
    Ok(written.into_iter().map(|row| row.key).collect())
}

fn json_row(state: &CopiedState) -> Result<serde_json::Value, serde_json::Error> {
    Ok(json!({
        "key": state.key,
        "removed": state.removed,
        "epoch": state.version.epoch,
        "version": state.version.version,
        "updated_us": state.updated_at.micros(),
        "content": serde_json::to_string(&state.content)?,
    }))
}
