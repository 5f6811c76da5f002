//! The table `consumer`: its rows and every statement on it.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::consumer;
use common::stored_by_code;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::sql_types::SmallInt;

use super::MAX_KNOWN;

/// Whether a consumer is still looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum ConsumerState {
    /// It is.
    Active,
    /// Nothing is expected of it any more.
    Retired,
}

stored_by_code!(ConsumerState { Active => 0, Retired => 1 });

impl ConsumerState {
    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// A service that reads this one's events.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = consumer, treat_none_as_null = true, treat_none_as_default_value = false)]
pub struct Consumer {
    /// What it calls itself in its answers.
    pub name: String,
    /// Whether events wait for its answer.
    pub required: bool,
    /// The first event that it owes an answer.
    pub since_id: EventId,
    /// Whether it is still looked at.
    pub state: ConsumerState,
    /// Whether events that wait for it alone are being settled, since it owes nothing any more.
    pub letting_off: bool,
    /// How far that has got.
    pub cursor: EventId,
    /// Events that were settled without its answer.
    pub let_off: i64,
    /// When it was registered.
    pub registered_us: Timestamp,
    /// By whom.
    pub registered_by: String,
    /// When somebody last made it required or watched, or retired it.
    pub changed_us: Option<Timestamp>,
    /// Who did.
    pub changed_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Consumer {
    /// The one that the settings name, as long as it has no row.
    pub(super) fn implied(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            required: true,
            since_id: EventId::NIL,
            state: ConsumerState::Active,
            letting_off: false,
            cursor: EventId::NIL,
            let_off: 0,
            registered_us: Timestamp::default(),
            registered_by: super::registry::BY_SETTINGS.to_owned(),
            changed_us: None,
            changed_by: None,
            reason: None,
        }
    }
}

fn limit() -> i64 {
    i64::try_from(MAX_KNOWN).unwrap_or(i64::MAX)
}

/// All of them, in the order in which they were registered. No name is empty: so their index answers it.
pub(super) fn all(conn: &mut Conn) -> QueryResult<Vec<Consumer>> {
    let all = consumer::table.filter(consumer::name.gt("")).order(consumer::name).limit(limit());
    on!(conn, c => all.select(Consumer::as_select()).load(c)).map(by_registration)
}

/// The same, kept as they are until the transaction ends.
pub(super) fn all_shared(conn: &mut Conn) -> QueryResult<Vec<Consumer>> {
    let all = consumer::table.filter(consumer::name.gt("")).order(consumer::name).limit(limit());
    let rows = match conn {
        Conn::Pg(c) => all.select(Consumer::as_select()).for_share().load(c),
        // Nobody else writes meanwhile.
        Conn::Sqlite(c) => all.select(Consumer::as_select()).load(c),
    };
    rows.map(by_registration)
}

/// The same, locked until the transaction ends.
pub(super) fn all_locked(conn: &mut Conn) -> QueryResult<Vec<Consumer>> {
    let all = consumer::table.order(consumer::name).limit(limit());
    let rows = match conn {
        Conn::Pg(c) => all.select(Consumer::as_select()).for_update().load(c),
        Conn::Sqlite(c) => all.select(Consumer::as_select()).load(c),
    };
    rows.map(by_registration)
}

fn by_registration(mut rows: Vec<Consumer>) -> Vec<Consumer> {
    rows.sort_by(|one, other| {
        (one.registered_us, &one.name).cmp(&(other.registered_us, &other.name))
    });
    rows
}

/// All of them, in the order in which they were registered: the one that the settings name as well.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, first: &str) -> QueryResult<Vec<Consumer>> {
    let mut rows = all(conn)?;
    if !rows.iter().any(|one| one.name == first) {
        rows.insert(0, Consumer::implied(first));
    }
    Ok(rows)
}

/// One that is being let off what it owes.
///
/// # Errors
/// When the statement fails.
pub fn letting_off(conn: &mut Conn) -> QueryResult<Option<Consumer>> {
    on!(conn, c => consumer::table
        .filter(consumer::letting_off.eq(true))
        .order(consumer::name)
        .select(Consumer::as_select())
        .first(c)
        .optional())
}

/// One of them.
///
/// # Errors
/// When the statement fails.
pub fn find(conn: &mut Conn, name: &str) -> QueryResult<Option<Consumer>> {
    on!(conn, c => consumer::table
        .find(name)
        .select(Consumer::as_select())
        .first(c)
        .optional())
}

/// Adds one; false if there is one of that name.
pub(super) fn insert(conn: &mut Conn, row: &Consumer) -> QueryResult<bool> {
    let added = on!(conn, c => diesel::insert_into(consumer::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(added == 1)
}

/// Writes one back; it was locked by [`all_locked`] in this transaction.
pub(super) fn save(conn: &mut Conn, row: &Consumer) -> QueryResult<()> {
    on!(conn, c => diesel::update(consumer::table.find(&row.name)).set(row).execute(c)).map(drop)
}

/// Forgets one that is retired and owes nothing any more.
pub(super) fn forget(conn: &mut Conn, name: &str) -> QueryResult<()> {
    on!(conn, c => diesel::delete(consumer::table.find(name)).execute(c)).map(drop)
}

/// Notes how far letting a consumer off has got, unless it was registered again meanwhile; `more` events were settled.
///
/// # Errors
/// When the statement fails.
pub fn save_cursor(
    conn: &mut Conn,
    name: &str,
    cursor: Option<EventId>,
    more: i64,
) -> QueryResult<()> {
    let open = consumer::table.find(name).filter(consumer::letting_off.eq(true));
    let moved = (
        consumer::letting_off.eq(cursor.is_some()),
        consumer::cursor.eq(cursor.unwrap_or(EventId::NIL)),
        consumer::let_off.eq(consumer::let_off + more),
    );
    on!(conn, c => diesel::update(open).set(moved).execute(c)).map(drop)
}
