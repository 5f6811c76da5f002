//! The table `forgotten`: how far a service has deleted what its later decisions depend on.
//!
//! A row that is missing may never have been there, or may be deleted. Where the two must not be confused, the service
//! notes with the deletion how far it went, and looks here after it has found nothing.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::forgotten;
use diesel::prelude::*;

/// What was made later than this long ago is in no way forgotten: a day is the shortest that may be set.
const YOUNG: Duration = Duration::from_secs(12 * 60 * 60);

/// What the inbox knows: how far it was forgotten, in microseconds.
pub const INBOX: &str = "inbox";

/// Whether what has this id may have been forgotten, or be older than what was: then it has to be looked up.
pub fn may_be_forgotten(id: EventId, now: Timestamp) -> bool {
    id < EventId::first_at(now.before(YOUNG))
}

/// How far `what` was forgotten; none as long as nothing was.
///
/// # Errors
/// When the statement fails.
pub fn forgotten_up_to(conn: &mut Conn, what: &str) -> QueryResult<Option<i64>> {
    let row = forgotten::table.find(what).select(forgotten::up_to);
    on!(conn, c => row.first(c).optional())
}

/// The first id that `what` was not forgotten up to, where moments say how far that is; none as long as nothing was.
///
/// # Errors
/// When the statement fails.
pub fn first_known(conn: &mut Conn, what: &str) -> QueryResult<Option<EventId>> {
    let moment = forgotten_up_to(conn, what)?.map(Timestamp::from_micros);
    Ok(moment.map(EventId::first_at))
}

/// Notes, in the transaction of the deletion, that `what` may be gone up to `up_to`.
///
/// # Errors
/// When a statement fails.
pub fn note_forgotten(conn: &mut Conn, what: &str, up_to: i64) -> QueryResult<()> {
    let row = (forgotten::what.eq(what), forgotten::up_to.eq(up_to));
    on!(&mut *conn, c => diesel::insert_into(forgotten::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    let lower = forgotten::table.find(what).filter(forgotten::up_to.lt(up_to));
    on!(conn, c => diesel::update(lower).set(forgotten::up_to.eq(up_to)).execute(c))?;
    Ok(())
}
