//! Whether the copy of another service's states in this database is complete: the table `copy_state`.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::on;
use crate::schema::copy_state;

/// What is known of the copy in this database.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = copy_state)]
pub struct CopyState {
    /// Tells this copy from another one: made at random, and anew when it is emptied.
    pub copy_id: String,
    /// Since when it holds all that its owner has; none: it does not yet.
    pub complete_us: Option<Timestamp>,
}

impl CopyState {
    /// Whether it has, or had once, all that its owner has.
    pub const fn is_complete(&self) -> bool {
        self.complete_us.is_some()
    }
}

/// The state of the copy; none in a database without one.
///
/// # Errors
/// When the statement fails.
pub fn read(conn: &mut Conn) -> QueryResult<Option<CopyState>> {
    on!(conn, c => copy_state::table
        .find(1_i16)
        .select(CopyState::as_select())
        .first(c)
        .optional())
}

/// Notes, once for each database, that there is a copy of this id, which is not complete.
///
/// # Errors
/// When the statement fails.
pub fn begin(conn: &mut Conn, copy_id: &str) -> QueryResult<()> {
    let first = (copy_state::only_row.eq(1_i16), copy_state::copy_id.eq(copy_id));
    on!(conn, c => diesel::insert_into(copy_state::table)
        .values(first)
        .on_conflict_do_nothing()
        .execute(c))
    .map(drop)
}

/// Notes that the copy of this id is complete, as `by` says; false: it is another copy that is here.
///
/// # Errors
/// When the statement fails.
pub fn complete(conn: &mut Conn, copy_id: &str, now: Timestamp, by: &str) -> QueryResult<bool> {
    let Some(state) = read(conn)?.filter(|state| state.copy_id == copy_id) else {
        return Ok(false);
    };
    if state.is_complete() {
        return Ok(true);
    }
    // Compared again: it may be emptied meanwhile.
    let this = copy_state::table.filter(copy_state::copy_id.eq(copy_id));
    let change = (copy_state::complete_us.eq(Some(now)), copy_state::complete_by.eq(Some(by)));
    Ok(on!(conn, c => diesel::update(this).set(change).execute(c))? == 1)
}
