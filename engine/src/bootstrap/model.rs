//! The table `bootstrap`: its row and every statement on it.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{bootstrap, outbox_failed, outbox_pending, outbox_sent};
use common::stored_by_code;
use diesel::deserialize::FromSqlRow;
use diesel::dsl::{not, sql};
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::{Bool, SmallInt, Text};
use serde::Serialize;
use utoipa::ToSchema;

/// How far a filling is, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
#[serde(rename_all = "lowercase")]
#[schema(as = BootstrapState)]
pub enum State {
    /// The owner's keys are counted.
    Counting,
    /// Their states are sent.
    Filling,
    /// What was sent is not all answered yet.
    Arriving,
    /// The copy is compared with its owner.
    Verifying,
    /// It is equal, and is to be told.
    Telling,
    /// The copy is complete.
    Done,
    /// It ended before; `reason` says why.
    Cancelled,
}

stored_by_code!(State {
    Counting => 0, Filling => 1, Arriving => 2, Verifying => 3, Telling => 4, Done => 5, Cancelled => 6,
});

impl State {
    /// Whether there is more to do.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Done | Self::Cancelled)
    }

    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Filling => "filling",
            Self::Arriving => "arriving",
            Self::Verifying => "verifying",
            Self::Telling => "telling",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A filling to be put down.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = bootstrap)]
pub struct NewFilling {
    /// Of which consumer's copy.
    pub consumer: String,
    /// Which copy; none: whichever answers first.
    pub copy_id: Option<String>,
    /// How far it is.
    pub state: State,
    /// When to begin.
    pub due_us: Timestamp,
    /// When it was put down.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
}

/// The filling of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = bootstrap)]
pub struct Filling {
    /// Its number.
    pub seq: i64,
    /// Of which consumer's copy.
    pub consumer: String,
    /// Which copy; none until it has answered.
    pub copy_id: Option<String>,
    /// How far it is, or how it ended.
    pub state: State,
    /// The key up to which keys are counted.
    pub cursor: Option<String>,
    /// Keys of the owner, as counted at its start.
    pub expected: i64,
    /// Of those, sent so far.
    pub done: i64,
    /// The job that sends them.
    pub job: Option<i64>,
    /// Events up to this one have to be answered.
    pub last_event: Option<EventId>,
    /// The verification that judges.
    pub verification: Option<i64>,
    /// How often it was verified and differed.
    pub rounds: i32,
    /// When to go on.
    pub due_us: Timestamp,
    /// What it waits for, or why it ended.
    pub reason: Option<String>,
    /// When it was put down.
    pub created_us: Timestamp,
    /// By whom.
    pub created_by: String,
    /// How they were authenticated.
    pub created_via: String,
    /// When the first state was sent.
    pub started_us: Option<Timestamp>,
    /// When the last one was.
    pub filled_us: Option<Timestamp>,
    /// When it ended.
    pub ended_us: Option<Timestamp>,
    /// Who cancelled it.
    pub ended_by: Option<String>,
}

/// Adds a filling and returns its number; none if one of that consumer is under way.
///
/// # Errors
/// When the statement fails.
pub fn insert(conn: &mut Conn, new: &NewFilling) -> QueryResult<Option<i64>> {
    on!(conn, c => diesel::insert_into(bootstrap::table)
        .values(new)
        .on_conflict_do_nothing()
        .returning(bootstrap::seq)
        .get_result(c)
        .optional())
}

/// One filling.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, seq: i64) -> QueryResult<Option<Filling>> {
    on!(conn, c => bootstrap::table.find(seq).select(Filling::as_select()).first(c).optional())
}

/// Up to `limit` fillings, newest first, with numbers below `before`.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, before: i64, limit: i64) -> QueryResult<Vec<Filling>> {
    on!(conn, c => bootstrap::table
        .filter(bootstrap::seq.lt(before))
        .order(bootstrap::seq.desc())
        .limit(limit)
        .select(Filling::as_select())
        .load(c))
}

/// Whether a copy of this consumer is being filled.
///
/// # Errors
/// When the statement fails.
pub fn is_open(conn: &mut Conn, consumer: &str) -> QueryResult<bool> {
    Ok(under_way(conn, consumer)?.is_some())
}

/// The filling of this consumer's copy that is not at its end.
pub(super) fn under_way(conn: &mut Conn, consumer: &str) -> QueryResult<Option<Filling>> {
    let open = bootstrap::table
        .filter(bootstrap::consumer.eq(consumer).and(bootstrap::ended_us.is_null()));
    on!(conn, c => open.select(Filling::as_select()).first(c).optional())
}

/// The newest filling of this copy.
pub(super) fn newest(
    conn: &mut Conn,
    consumer: &str,
    copy_id: &str,
) -> QueryResult<Option<Filling>> {
    on!(conn, c => bootstrap::table
        .filter(bootstrap::consumer.eq(consumer).and(bootstrap::copy_id.eq(copy_id)))
        .order(bootstrap::seq.desc())
        .select(Filling::as_select())
        .first(c)
        .optional())
}

/// A filling that is not at its end, locked until the transaction ends.
pub(super) fn lock(conn: &mut Conn, seq: i64) -> QueryResult<Option<Filling>> {
    let open = bootstrap::table.filter(bootstrap::seq.eq(seq).and(bootstrap::ended_us.is_null()));
    match conn {
        Conn::Pg(c) => open.select(Filling::as_select()).for_update().get_result(c).optional(),
        Conn::Sqlite(c) => open.select(Filling::as_select()).get_result(c).optional(),
    }
}

/// Writes back how far a filling is; it was locked by [`lock`] in this transaction.
pub(super) fn save(conn: &mut Conn, row: &Filling) -> QueryResult<()> {
    use bootstrap as b;
    let change = (
        b::copy_id.eq(row.copy_id.as_deref()),
        b::state.eq(row.state),
        b::cursor.eq(row.cursor.as_deref()),
        b::expected.eq(row.expected),
        b::done.eq(row.done),
        b::job.eq(row.job),
        b::last_event.eq(row.last_event),
        b::verification.eq(row.verification),
        b::rounds.eq(row.rounds),
        b::due_us.eq(row.due_us),
        b::reason.eq(row.reason.as_deref()),
        b::started_us.eq(row.started_us),
        b::filled_us.eq(row.filled_us),
        b::ended_us.eq(row.ended_us),
        b::ended_by.eq(row.ended_by.as_deref()),
    );
    on!(conn, c => diesel::update(b::table.find(row.seq)).set(change).execute(c))?;
    Ok(())
}

/// Events of one place that are counted at a look.
const COUNTED: usize = 1_000;

/// Events that are not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// The oldest one.
    pub(super) oldest: EventId,
    /// How many, as far as they are counted.
    pub(super) events: usize,
    /// Whether there are more.
    pub(super) more: bool,
}

/// What of the events up to `last` is still to be sent, or to be answered by `consumer`. One that waits for a person is left
/// to the verification.
pub(super) fn unanswered(
    conn: &mut Conn,
    last: EventId,
    consumer: &str,
) -> QueryResult<Option<Unanswered>> {
    use {outbox_failed as f, outbox_pending as p, outbox_sent as s};
    let limit = i64::try_from(COUNTED + 1).unwrap_or(i64::MAX);
    let has_answered = |place: &str| {
        let sent = format!(
            "EXISTS (SELECT 1 FROM outbox_answer a WHERE a.event_id = {place}.id AND a.outcome < 2 AND a.consumer = "
        );
        sql::<Bool>(&sent).bind::<Text, _>(consumer.to_owned()).sql(")")
    };
    let pending: Vec<EventId> = on!(&mut *conn, c => p::table
        .filter(p::id.le(last))
        .order(p::id).limit(limit).select(p::id).load(c))?;
    let sent: Vec<EventId> = on!(&mut *conn, c => s::table
        .filter(s::id.le(last).and(not(has_answered("outbox_sent"))))
        .order(s::id).limit(limit).select(s::id).load(c))?;
    // As the index has it.
    let again: Vec<EventId> = on!(conn, c => f::table
        .filter(f::id.le(last).and(sql::<Bool>("status = 0")))
        .filter(not(has_answered("outbox_failed")))
        .order(f::id).limit(limit).select(f::id).load(c))?;
    let all = [pending, sent, again];
    let more = all.iter().any(|place| place.len() > COUNTED);
    let events = all.iter().map(|place| place.len().min(COUNTED)).sum();
    let oldest = all.iter().flatten().min();
    Ok(oldest.map(|oldest| Unanswered { oldest: *oldest, events, more }))
}
