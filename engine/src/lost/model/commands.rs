//! The table `lost_command`: its rows and every statement on them.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::{Conn, ROWS_PER_INSERT, column};
use common::ids::{EventId, EventIdSql};
use common::schema::{lost_command, outbox_event};
use common::{on, stored_by_code};
use diesel::deserialize::FromSqlRow;
use diesel::dsl::sql;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, SmallInt, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

/// What a page of lost commands came to.
#[derive(Debug, Default)]
pub(in crate::lost) struct Noted {
    /// Those that are open.
    pub(in crate::lost) open: Vec<LostCommand>,
    /// Those that this check had not met before.
    pub(in crate::lost) met: usize,
    /// Whether any is open that was not before.
    pub(in crate::lost) is_news: bool,
}

/// Notes commands that `check` found to be lost. One that was accepted or obsolete is open again, unless that was before
/// `unharmed`: what made it good then was lost with the same database.
pub(in crate::lost) fn insert(
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
    lock_known(conn, &ids)?;
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

/// Locks those that are known in the order of their ids, as whoever decides or tidies up does: a search that goes on beside
/// this one meets the same rows, and an update takes them in any order.
fn lock_known(conn: &mut Conn, ids: &[EventId]) -> QueryResult<()> {
    use lost_command as l;
    let known = l::table.filter(l::event_id.eq_any(ids)).order(l::event_id).select(l::event_id);
    match conn {
        Conn::Pg(c) => known.for_update().load::<EventId>(c).map(drop),
        Conn::Sqlite(_) => Ok(()),
    }
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
pub(in crate::lost) fn lock_open(
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
pub(in crate::lost) fn lock(conn: &mut Conn, id: EventId) -> QueryResult<Option<LostCommand>> {
    let one = lost_command::table.find(id);
    match conn {
        Conn::Pg(c) => one.select(LostCommand::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => one.select(LostCommand::as_select()).get_result(c).optional(),
    }
}

/// How a command is closed.
#[derive(Debug, Clone)]
pub(in crate::lost) struct Closing<'a> {
    pub(in crate::lost) state: State,
    pub(in crate::lost) at: Timestamp,
    pub(in crate::lost) by: Option<&'a str>,
    pub(in crate::lost) reason: Option<&'a str>,
}

/// Closes open ones.
pub(in crate::lost) fn close(
    conn: &mut Conn,
    ids: &[EventId],
    closing: &Closing<'_>,
) -> QueryResult<()> {
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
pub(in crate::lost) fn set_sent_as(
    conn: &mut Conn,
    sent: &[(EventId, EventId)],
) -> QueryResult<()> {
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
pub(in crate::lost) fn count_open(conn: &mut Conn, up_to: usize) -> QueryResult<usize> {
    use lost_command as l;
    let open = l::table
        .filter(sql::<Bool>("state = 0"))
        .limit(i64::try_from(up_to).unwrap_or(i64::MAX))
        .select(l::event_id);
    let ids: Vec<EventId> = on!(conn, c => open.load(c))?;
    Ok(ids.len())
}
