//! The database's own clock: leases run by it, so that instances need not agree on the time.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::Conn;
use crate::on;

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = BigInt)]
    now_us: i64,
}

/// Now, by the database's clock, in microseconds since 1970.
///
/// # Errors
/// When the statement fails.
pub fn database_now(conn: &mut Conn) -> QueryResult<i64> {
    let sql = match conn {
        Conn::Pg(_) => "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us",
        Conn::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now_us",
    };
    let row: Now = on!(conn, c => sql_query(sql).get_result(c))?;
    Ok(row.now_us)
}
