//! Whether a database can hold what may be written into it, and whether it may be migrated now.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::{Backend, Conn, DbError, Location, database_now};
use crate::on;
use crate::schema::relay_member;

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    encoding: String,
}

/// Checks that texts are stored as UTF-8: a SKU or a reason may hold any character.
///
/// That different SKUs stay different needs no check: a database's default collation is always deterministic.
pub(super) fn encoding(conn: &mut Conn, location: &Location) -> Result<(), DbError> {
    let stored = stored_encoding(conn)?;
    let reason = match conn.backend() {
        Backend::Postgres if stored != "UTF8" => format!(
            "its encoding is {stored}, which can't hold every text; create it with ENCODING 'UTF8' TEMPLATE template0"
        ),
        // Such a file could hold every text, but it would sort SKUs in another order than this program does.
        Backend::Sqlite if stored != "UTF-8" => format!(
            "its encoding is {stored}, in which SKUs sort in another order; use a new file, which is UTF-8"
        ),
        Backend::Postgres | Backend::Sqlite => return Ok(()),
    };
    Err(DbError::Unusable { location: location.to_string(), reason })
}

fn stored_encoding(conn: &mut Conn) -> QueryResult<String> {
    let sql = match conn {
        Conn::Pg(_) => "SELECT current_setting('server_encoding') AS encoding",
        Conn::Sqlite(_) => "SELECT encoding FROM pragma_encoding",
    };
    let row: Stored = on!(conn, c => sql_query(sql).get_result(c))?;
    Ok(row.encoding)
}

/// The first migration: while it is to be done, the database is new.
const FIRST: &str = "20260105000000";

/// Migrations that instances of the release before can't live with.
const ALONE: [&str; 1] = ["20261128000500"];

/// Refuses to run `pending` beside instances that would fail, or lose their way, on the new schema.
///
/// # Errors
/// When one of them lives, with what to do.
pub(super) fn alone(
    conn: &mut Conn,
    location: &Location,
    pending: &[String],
) -> Result<(), DbError> {
    let has = |version: &str| pending.iter().any(|pending| pending == version);
    if has(FIRST) || !ALONE.iter().any(|version| has(version)) {
        return Ok(());
    }
    let now = database_now(conn)?;
    let live = relay_member::table.filter(relay_member::expires_us.gt(now)).count();
    let live: i64 = on!(conn, c => live.get_result(c))?;
    if live == 0 {
        return Ok(());
    }
    Err(DbError::Unusable {
        location: location.to_string(),
        reason: format!(
            "instances of the release before use it ({live}), and can't go on with the tables of this one; stop them \
             and start this one again (after a crash, once outbox.lease is over)"
        ),
    })
}
