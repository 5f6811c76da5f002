//! The tables `lost_check` and `lost_command`: their rows and every statement on them.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, column};
use common::event::{EventKind, Status};
use common::ids::{EventId, EventIdSql};
use common::schema::{
    lost_check, lost_command, outbox_event, outbox_failed, outbox_pending, outbox_sent,
    outbox_settled,
};
use common::{on, stored_by_code};
use diesel::deserialize::FromSqlRow;
use diesel::dsl::sql;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, SmallInt, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PAGE;
use crate::outbox::FinalOutcome;

/// What became of a lost command.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "snake_case")]
#[schema(as = LostCommandState)]
pub enum State {
    /// A person has to decide.
    Open,
    /// A person had it sent again.
    Again,
    /// A person has made good what is missing.
    Accepted,
    /// Nothing is missing, or not any more.
    Obsolete,
}

stored_by_code!(State { Open => 0, Again => 1, Accepted => 2, Obsolete => 3 });

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Again, Self::Accepted, Self::Obsolete];

    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Again => "again",
            Self::Accepted => "accepted",
            Self::Obsolete => "obsolete",
        }
    }
}

impl std::str::FromStr for State {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or("it is none of open, again, accepted, obsolete")
    }
}

/// A command whose effect was lost with its receiver's database.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = lost_command, treat_none_as_default_value = false)]
pub struct LostCommand {
    /// The event.
    pub event_id: EventId,
    /// The check that found it.
    pub found_by: i64,
    /// Its type.
    pub event_type: String,
    /// What it was about.
    pub key: String,
    /// Its data, JSON.
    pub payload: String,
    /// What became of it.
    pub state: State,
    /// When it was answered.
    pub settled_us: Timestamp,
    /// When it was found to be lost.
    pub found_us: Timestamp,
    /// When it was decided on, or found to be obsolete.
    pub closed_us: Option<Timestamp>,
    /// Who decided.
    pub closed_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The event by which it was sent again.
    pub sent_as: Option<EventId>,
}

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
pub(super) struct Answered {
    pub(super) id: EventId,
    pub(super) outcome: FinalOutcome,
    pub(super) settled: Timestamp,
    pub(super) event_type: String,
}

/// A check to be put down.
#[derive(Debug, Insertable)]
#[diesel(table_name = lost_check)]
pub(super) struct NewCheck {
    pub(super) service: String,
    pub(super) restoration: String,
    pub(super) since_us: Option<Timestamp>,
    pub(super) until: EventId,
    pub(super) open_from: Option<EventId>,
    pub(super) known_from_us: Option<Timestamp>,
    pub(super) due_us: Timestamp,
    pub(super) created_us: Timestamp,
}

/// Puts a check down, and returns its number; one of the same restoration stays as it is.
pub(super) fn put_down(conn: &mut Conn, new: &NewCheck) -> QueryResult<i64> {
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
pub(super) fn due(conn: &mut Conn, now: Timestamp) -> QueryResult<Option<LostCheck>> {
    use lost_check as k;
    let due = k::table.filter(k::ended_us.is_null()).filter(k::due_us.le(now)).order(k::due_us);
    on!(conn, c => due.select(LostCheck::as_select()).first(c).optional())
}

/// Whether any check is under way.
pub(super) fn any_running(conn: &mut Conn) -> QueryResult<bool> {
    use lost_check as k;
    let open = k::table.filter(k::ended_us.is_null()).select(k::seq);
    on!(conn, c => open.first::<i64>(c).optional()).map(|found| found.is_some())
}

/// One check, locked until the transaction ends.
pub(super) fn lock_check(conn: &mut Conn, seq: i64) -> QueryResult<Option<LostCheck>> {
    let one = lost_check::table.find(seq);
    match conn {
        Conn::Pg(c) => one.select(LostCheck::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => one.select(LostCheck::as_select()).get_result(c).optional(),
    }
}

/// Writes back how far a check is.
pub(super) fn save_check(conn: &mut Conn, row: &LostCheck) -> QueryResult<()> {
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
pub(super) fn answered(conn: &mut Conn, check: &LostCheck) -> QueryResult<Vec<Answered>> {
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
pub(super) fn first_open(conn: &mut Conn, until: EventId) -> QueryResult<Option<EventId>> {
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

/// What a page of lost commands came to.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Those that are open.
    pub(super) open: Vec<LostCommand>,
    /// Those that this check had not met before.
    pub(super) met: usize,
    /// Whether any is open that was not before.
    pub(super) is_news: bool,
}

/// Notes commands that `check` found to be lost. One that was accepted or obsolete is open again, unless that was before
/// `unharmed`: what made it good then was lost with the same database.
pub(super) fn insert(
    conn: &mut Conn,
    check: i64,
    now: Timestamp,
    unharmed: Timestamp,
    lost: &BTreeMap<EventId, Timestamp>,
) -> QueryResult<Noted> {
    use lost_command as l;
    let ids: Vec<EventId> = lost.keys().copied().collect();
    let mut added = 0;
    for chunk in new_rows(conn, check, now, lost)?.chunks(ROWS_PER_INSERT) {
        added += on!(&mut *conn, c => diesel::insert_into(l::table)
            .values(chunk)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    let before = l::table.filter(l::event_id.eq_any(&ids)).filter(l::found_by.lt(check));
    let earlier = sql::<Nullable<Text>>(
        "CASE WHEN state = 2 THEN 'accepted before by ' || COALESCE(closed_by, 'somebody') || ': ' || COALESCE(reason, '') END",
    );
    let reopened = (
        l::state.eq(State::Open),
        l::found_by.eq(check),
        l::found_us.eq(now),
        l::reason.eq(earlier),
        l::closed_us.eq(None::<Timestamp>),
        l::closed_by.eq(None::<String>),
    );
    let closed = before
        .clone()
        .filter(l::state.eq_any([State::Accepted, State::Obsolete]))
        .filter(l::closed_us.ge(unharmed));
    let again = on!(&mut *conn, c => diesel::update(closed).set(reopened).execute(c))?;
    let met = on!(&mut *conn, c => diesel::update(before).set(l::found_by.eq(check)).execute(c))?;
    let open = l::table.filter(l::event_id.eq_any(&ids)).filter(l::state.eq(State::Open));
    let open = on!(conn, c => open.order(l::event_id).select(LostCommand::as_select()).load(c))?;
    Ok(Noted { open, met: added + again + met, is_news: added + again > 0 })
}

fn new_rows(
    conn: &mut Conn,
    found_by: i64,
    now: Timestamp,
    lost: &BTreeMap<EventId, Timestamp>,
) -> QueryResult<Vec<LostCommand>> {
    use outbox_event as e;
    let events: Vec<(EventId, String, String, String)> = on!(conn, c => e::table
        .filter(e::id.eq_any(lost.keys()))
        .order(e::id)
        .select((e::id, e::event_type, e::key, e::payload))
        .load(c))?;
    let row = |(event_id, event_type, key, payload): (EventId, String, String, String)| {
        let settled_us = lost.get(&event_id).copied().unwrap_or(now);
        LostCommand {
            event_id,
            found_by,
            event_type,
            key,
            payload,
            state: State::Open,
            settled_us,
            found_us: now,
            closed_us: None,
            closed_by: None,
            reason: None,
            sent_as: None,
        }
    };
    Ok(events.into_iter().map(row).collect())
}

/// One lost command.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, id: EventId) -> QueryResult<Option<LostCommand>> {
    let one = lost_command::table.find(id);
    on!(conn, c => one.select(LostCommand::as_select()).first(c).optional())
}

/// Up to `limit` lost commands after `after`, the oldest first; `state` says which.
///
/// # Errors
/// When the statement fails.
pub fn page(
    conn: &mut Conn,
    state: Option<State>,
    after: Option<EventId>,
    limit: i64,
) -> QueryResult<Vec<LostCommand>> {
    use lost_command as l;
    let after = after.unwrap_or(EventId::NIL);
    on!(conn, c => {
        let mut rows = l::table.filter(l::event_id.gt(after)).into_boxed();
        rows = match state {
            // As the index has it.
            Some(State::Open) => rows.filter(sql::<Bool>("state = 0")),
            Some(state) => rows.filter(l::state.eq(state)),
            None => rows,
        };
        rows.order(l::event_id).limit(limit).select(LostCommand::as_select()).load(c)
    })
}

/// Up to `limit` open ones after `after`, locked until the transaction ends.
pub(super) fn lock_open(
    conn: &mut Conn,
    after: Option<EventId>,
    limit: usize,
) -> QueryResult<Vec<LostCommand>> {
    use lost_command as l;
    let open = l::table
        .filter(l::event_id.gt(after.unwrap_or(EventId::NIL)))
        .filter(sql::<Bool>("state = 0"))
        .order(l::event_id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX));
    match conn {
        Conn::Pg(c) => open.select(LostCommand::as_select()).for_update().load(c),
        Conn::Sqlite(c) => open.select(LostCommand::as_select()).load(c),
    }
}

/// One lost command, locked until the transaction ends.
pub(super) fn lock(conn: &mut Conn, id: EventId) -> QueryResult<Option<LostCommand>> {
    let one = lost_command::table.find(id);
    match conn {
        Conn::Pg(c) => one.select(LostCommand::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => one.select(LostCommand::as_select()).get_result(c).optional(),
    }
}

/// How a command is closed.
#[derive(Debug, Clone)]
pub(super) struct Closing<'a> {
    pub(super) state: State,
    pub(super) at: Timestamp,
    pub(super) by: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

/// Closes open ones.
pub(super) fn close(conn: &mut Conn, ids: &[EventId], closing: &Closing<'_>) -> QueryResult<()> {
    use lost_command as l;
    let change = (
        l::state.eq(closing.state),
        l::closed_us.eq(closing.at),
        l::closed_by.eq(closing.by),
        l::reason.eq(closing.reason),
    );
    let open = l::table.filter(l::event_id.eq_any(ids)).filter(l::state.eq(State::Open));
    on!(conn, c => diesel::update(open).set(change).execute(c))?;
    Ok(())
}

/// Notes by which events commands were sent again.
pub(super) fn set_sent_as(conn: &mut Conn, sent: &[(EventId, EventId)]) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE lost_command l SET sent_as = n.sent_as FROM unnest($1, $2) AS n (event_id, sent_as)
             WHERE l.event_id = n.event_id",
        )
        .bind::<Array<EventIdSql>, _>(column(sent, |(lost, _)| *lost))
        .bind::<Array<EventIdSql>, _>(column(sent, |(_, sent_as)| *sent_as))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => sent.iter().try_for_each(|(lost, sent_as)| {
            diesel::update(lost_command::table.find(lost))
                .set(lost_command::sent_as.eq(sent_as))
                .execute(c)
                .map(drop)
        }),
    }
}

/// Those of `keys` whose newest event of the type is lost: what was sent again counts, unless that is lost, too.
///
/// # Errors
/// When the statement fails.
pub fn newest_lost(
    conn: &mut Conn,
    keys: &BTreeSet<&str>,
    event_type: &str,
) -> QueryResult<BTreeSet<String>> {
    use lost_command as l;
    let rows: Vec<(EventId, String, Option<EventId>)> = on!(conn, c => l::table
        .filter(l::key.eq_any(keys))
        .filter(l::event_type.eq(event_type))
        .select((l::event_id, l::key, l::sent_as))
        .load(c))?;
    let lost: BTreeSet<EventId> = rows.iter().map(|(id, ..)| *id).collect();
    let arrived = |sent: &Option<EventId>| sent.is_some_and(|sent| !lost.contains(&sent));
    let mended: BTreeSet<&str> =
        rows.iter().filter(|(.., sent)| arrived(sent)).map(|(_, key, _)| key.as_str()).collect();
    Ok(rows
        .iter()
        .map(|(_, key, _)| key)
        .filter(|key| !mended.contains(key.as_str()))
        .cloned()
        .collect())
}

/// How many are open, as far as that is counted.
pub(super) fn count_open(conn: &mut Conn, up_to: usize) -> QueryResult<usize> {
    use lost_command as l;
    let open = l::table
        .filter(sql::<Bool>("state = 0"))
        .limit(i64::try_from(up_to).unwrap_or(i64::MAX))
        .select(l::event_id);
    let ids: Vec<EventId> = on!(conn, c => open.load(c))?;
    Ok(ids.len())
}
