//! Counts that only grow, over the life of a database: how many events were processed, sent, failed.
//!
//! Each name has several rows, so that writers at the same time seldom meet; a reader sums them up.

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::counter;
use diesel::prelude::*;
use diesel::upsert::excluded;

/// What settling adds to, one for each event that becomes PROCESSED.
pub const PROCESSED: &str = "outbox.processed";
/// What the relay adds to, one for each attempt that the broker confirmed.
pub const SENT: &str = "outbox.sent";
/// For attempts that failed: answered FAILED, overdue, or refused by the producer.
pub const FAILED: &str = "outbox.failed";
/// For events that were EXHAUSTED and resolved, and that retention removed.
pub const FORGOTTEN: &str = "outbox.forgotten";

/// Slots of one count.
const SLOTS: i64 = 16;

/// The slot to add to: by the time of day, without any state, so that writers seldom wait for each other.
pub(crate) fn slot(now: Timestamp) -> i16 {
    i16::try_from(now.micros().rem_euclid(SLOTS)).unwrap_or(0)
}

/// Adds to a durable count.
pub fn add(conn: &mut Conn, name: &str, now: Timestamp, by: usize) -> QueryResult<()> {
    let by = i64::try_from(by).unwrap_or(i64::MAX);
    on!(conn, c => diesel::insert_into(counter::table)
        .values((counter::name.eq(name), counter::slot.eq(slot(now)), counter::value.eq(by)))
        .on_conflict((counter::name, counter::slot))
        .do_update()
        .set(counter::value.eq(counter::value + excluded(counter::value)))
        .execute(c))?;
    Ok(())
}
