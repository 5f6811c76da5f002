//! The table `lost_check`, and the events that a check walks: rows and every statement on them.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventKind, Status};
use common::ids::EventId;
use common::on;
use common::schema::{
    lost_check, outbox_event, outbox_failed, outbox_pending, outbox_sent, outbox_settled,
};
use diesel::prelude::*;

use super::super::PAGE;
use super::super::check::AGAIN;
use crate::outbox::FinalOutcome;

/// A search for lost commands.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = lost_check)]
pub struct LostCheck {
    /// Its number.
    pub seq: i64,
    /// Whose database came back from a backup.
    pub service: String,
    /// Which restoration, as that service names it.
    pub restoration: String,
    /// What came before is in its database.
    pub since_us: Option<Timestamp>,
    /// Commands from here on are not looked at.
    pub until: EventId,
    /// Commands up to here are looked at in this pass.
    pub cursor: Option<EventId>,
    /// The first one that was open when the pass began.
    pub open_from: Option<EventId>,
    /// Commands that the receiver was asked about.
    pub asked: i64,
    /// Those that it does not know.
    pub found: i64,
    /// Those that it may have forgotten.
    pub unclear: i64,
    /// What was made before is not known.
    pub known_from_us: Option<Timestamp>,
    /// Why it does not get on.
    pub waits_for: Option<String>,
    /// When to go on.
    pub due_us: Timestamp,
    /// When it was put down.
    pub created_us: Timestamp,
    /// When it ended.
    pub ended_us: Option<Timestamp>,
}

/// An answered event, as a page of them has it.
#[derive(Debug, Clone, Queryable)]
pub(in crate::lost) struct Answered {
    pub(in crate::lost) id: EventId,
    pub(in crate::lost) outcome: FinalOutcome,
    pub(in crate::lost) settled: Timestamp,
    pub(in crate::lost) event_type: String,
}

/// A check to be put down.
#[derive(Debug, Insertable)]
#[diesel(table_name = lost_check)]
pub(in crate::lost) struct NewCheck {
    pub(in crate::lost) service: String,
    pub(in crate::lost) restoration: String,
    pub(in crate::lost) since_us: Option<Timestamp>,
    pub(in crate::lost) until: EventId,
    pub(in crate::lost) open_from: Option<EventId>,
    pub(in crate::lost) known_from_us: Option<Timestamp>,
    pub(in crate::lost) due_us: Timestamp,
    pub(in crate::lost) created_us: Timestamp,
}

/// Puts a check down, and returns its number; one of the same restoration stays as it is.
pub(in crate::lost) fn put_down(conn: &mut Conn, new: &NewCheck) -> QueryResult<i64> {
    use lost_check as k;
    on!(&mut *conn, c => diesel::insert_into(k::table)
        .values(new)
        .on_conflict_do_nothing()
        .execute(c))?;
    let same =
        k::table.filter(k::service.eq(&new.service)).filter(k::restoration.eq(&new.restoration));
    on!(conn, c => same.select(k::seq).first(c))
}

/// The newest check; none if there never was one.
///
/// # Errors
/// When the statement fails.
pub fn latest_check(conn: &mut Conn) -> QueryResult<Option<LostCheck>> {
    let newest = lost_check::table.order(lost_check::seq.desc());
    on!(conn, c => newest.select(LostCheck::as_select()).first(c).optional())
}

/// The check that is due.
pub(in crate::lost) fn due(conn: &mut Conn, now: Timestamp) -> QueryResult<Option<LostCheck>> {
    use lost_check as k;
    let is_due = k::due_us.le(now).or(k::due_us.gt(now.latest(AGAIN)));
    let due = k::table.filter(k::ended_us.is_null()).filter(is_due).order(k::due_us);
    on!(conn, c => due.select(LostCheck::as_select()).first(c).optional())
}

/// Whether any check is under way.
pub(in crate::lost) fn any_running(conn: &mut Conn) -> QueryResult<bool> {
    use lost_check as k;
    let open = k::table.filter(k::ended_us.is_null()).select(k::seq);
    on!(conn, c => open.first::<i64>(c).optional()).map(|found| found.is_some())
}

/// One check, locked until the transaction ends.
pub(in crate::lost) fn lock_check(conn: &mut Conn, seq: i64) -> QueryResult<Option<LostCheck>> {
    let one = lost_check::table.find(seq);
    match conn {
        Conn::Pg(c) => one.select(LostCheck::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => one.select(LostCheck::as_select()).get_result(c).optional(),
    }
}

/// Writes back how far a check is.
pub(in crate::lost) fn save_check(conn: &mut Conn, row: &LostCheck) -> QueryResult<()> {
    use lost_check as k;
    let change = (
        k::cursor.eq(row.cursor),
        k::open_from.eq(row.open_from),
        k::asked.eq(row.asked),
        k::found.eq(row.found),
        k::unclear.eq(row.unclear),
        k::known_from_us.eq(row.known_from_us),
        k::waits_for.eq(row.waits_for.as_deref()),
        k::due_us.eq(row.due_us),
        k::ended_us.eq(row.ended_us),
    );
    on!(conn, c => diesel::update(k::table.find(row.seq)).set(change).execute(c))?;
    Ok(())
}

/// The next page of answered events that a check looks at, by id.
pub(in crate::lost) fn answered(conn: &mut Conn, check: &LostCheck) -> QueryResult<Vec<Answered>> {
    use {outbox_event as e, outbox_settled as s};
    on!(conn, c => s::table
        .inner_join(e::table.on(e::id.eq(s::id)))
        .filter(s::id.gt(check.cursor.unwrap_or(EventId::NIL)).and(s::id.lt(check.until)))
        .order(s::id)
        .limit(i64::try_from(PAGE).unwrap_or(i64::MAX))
        .select((s::id, s::outcome, s::settled_us, e::event_type))
        .load(c))
}

/// The first command below `until` that may still be answered by itself; one that waits for a person is none.
pub(in crate::lost) fn first_open(conn: &mut Conn, until: EventId) -> QueryResult<Option<EventId>> {
    use {outbox_event as e, outbox_failed as f, outbox_pending as p, outbox_sent as s};
    let is_command = e::kind.eq(EventKind::Command);
    let pending: Option<EventId> = on!(&mut *conn, c => p::table
        .inner_join(e::table.on(e::id.eq(p::id)))
        .filter(is_command.and(p::id.lt(until)))
        .order(p::id).select(p::id).first(c).optional())?;
    let sent: Option<EventId> = on!(&mut *conn, c => s::table
        .inner_join(e::table.on(e::id.eq(s::id)))
        .filter(is_command.and(s::id.lt(until)))
        .order(s::id).select(s::id).first(c).optional())?;
    let failed: Option<EventId> = on!(conn, c => f::table
        .inner_join(e::table.on(e::id.eq(f::id)))
        .filter(is_command.and(f::id.lt(until)).and(f::status.ne(Status::Exhausted)))
        .order(f::id).select(f::id).first(c).optional())?;
    Ok([pending, sent, failed].into_iter().flatten().min())
}
