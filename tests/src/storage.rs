//! What PostgreSQL makes of a service's tables: how they are stored, and what an update costs.

use std::collections::BTreeMap;

use common::db::Conn;
use common::on;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

/// Rows of a table that were updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Updates {
    /// All of them.
    #[diesel(sql_type = BigInt)]
    pub rows: i64,
    /// Those of them that stayed in their page and touched no index.
    #[diesel(sql_type = BigInt)]
    pub hot: i64,
}

/// What `work` updates of `table`, in a transaction on PostgreSQL that goes on.
///
/// # Errors
/// Whatever `work` returned, or when a statement fails.
pub fn updates_of<T, E: From<Error>>(
    conn: &mut Conn,
    table: &str,
    work: impl FnOnce(&mut Conn) -> Result<T, E>,
) -> Result<Updates, E> {
    let before = counted(conn, table)?;
    work(conn)?;
    let after = counted(conn, table)?;
    Ok(Updates { rows: after.rows - before.rows, hot: after.hot - before.hot })
}

/// What this session has not told the server's statistics yet, which is all of its transaction at the least.
fn counted(conn: &mut Conn, table: &str) -> QueryResult<Updates> {
    let sql = "SELECT n_tup_upd AS rows, n_tup_hot_upd AS hot FROM pg_stat_xact_user_tables \
               WHERE schemaname = current_schema() AND relname = $1";
    on!(conn, c => sql_query(sql).bind::<Text, _>(table).get_result(c))
}

/// The tables of a database on PostgreSQL that are not stored by default, each with its storage parameters.
///
/// # Errors
/// When the statement fails.
pub fn storage_parameters(conn: &mut Conn) -> QueryResult<BTreeMap<String, String>> {
    #[derive(QueryableByName)]
    struct Stored {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        parameters: String,
    }
    let sql = "SELECT c.relname::text AS name, array_to_string(c.reloptions, ', ') AS parameters \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = current_schema() AND c.relkind = 'r' AND c.reloptions IS NOT NULL";
    let rows: Vec<Stored> = on!(conn, c => sql_query(sql).load(c))?;
    Ok(rows.into_iter().map(|row| (row.name, row.parameters)).collect())
}
