//! The states of a key as its events keep them: one for each version, until retention deletes them.
//!
//! A state that was sent again is an event more of the same version; the first of them is the version's. Each statement
//! walks the index `outbox_event_version`, and jumps over what was sent again.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventKind, EventRow};
use common::ids::EventId;
use common::on;
use common::schema::outbox_event;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

/// Where a walk over the versions of a key begins, and which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Newest first, below this version.
    Down(i64),
    /// Oldest first, from this version on.
    Up(i64),
}

/// The first event of each of up to `versions` versions of `key` that are kept.
///
/// # Errors
/// When the statement fails.
pub fn kept_states(
    conn: &mut Conn,
    key: &str,
    walk: Walk,
    versions: i64,
) -> QueryResult<Vec<EventRow>> {
    let (start, first, next, order) = match walk {
        Walk::Down(before) => (before, "<", "<", "DESC"),
        Walk::Up(from) => (from, ">=", ">", "ASC"),
    };
    let jump = |to: &str| {
        format!(
            "(SELECT e.version FROM outbox_event e WHERE e.key = $1 AND e.kind = 0 AND e.version {to} \
             ORDER BY e.version {order} LIMIT 1)"
        )
    };
    let sql = format!(
        "WITH RECURSIVE v (version, n) AS (SELECT {}, 1 UNION ALL \
           SELECT {}, v.n + 1 FROM v WHERE v.version IS NOT NULL AND v.n < $3) \
         SELECT e.* FROM v JOIN outbox_event e ON e.id = \
           (SELECT f.id FROM outbox_event f WHERE f.key = $1 AND f.kind = 0 AND f.version = v.version \
            ORDER BY f.id LIMIT 1) \
         ORDER BY v.n",
        jump(&format!("{first} $2")),
        jump(&format!("{next} v.version")),
    );
    conn.read_by_index(|conn| {
        on!(conn, c => sql_query(sql)
            .bind::<Text, _>(key)
            .bind::<BigInt, _>(start)
            .bind::<BigInt, _>(versions)
            .load(c))
    })
}

/// What is kept of a selection of states, counted up to a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptCount {
    /// How many events.
    pub events: i64,
    /// When the first of them was made.
    pub first: Option<Timestamp>,
    /// When the last of them was made.
    pub last: Option<Timestamp>,
    /// The least version, where they are of one key.
    pub oldest_version: Option<i64>,
}

/// What is kept of `key` from `version` on, the first `limit` events of it.
///
/// # Errors
/// When the statement fails.
pub fn count_kept_of(
    conn: &mut Conn,
    key: &str,
    version: i64,
    limit: i64,
) -> QueryResult<KeptCount> {
    use outbox_event as e;
    let rows = e::table
        .filter(e::key.eq(key).and(e::kind.eq(EventKind::Snapshot)).and(e::version.ge(version)))
        .order((e::version, e::id))
        .limit(limit)
        .select((e::version, e::created_us));
    let rows: Vec<(i64, Timestamp)> = conn.read_by_index(|conn| on!(conn, c => rows.load(c)))?;
    Ok(KeptCount {
        events: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        first: rows.iter().map(|(_, at)| *at).min(),
        last: rows.iter().map(|(_, at)| *at).max(),
        oldest_version: rows.first().map(|(version, _)| *version),
    })
}

/// What is kept of all keys since a moment, the first `limit` events of it.
///
/// # Errors
/// When the statement fails.
pub fn count_kept_since(conn: &mut Conn, since: Timestamp, limit: i64) -> QueryResult<KeptCount> {
    use outbox_event as e;
    let rows = e::table
        .filter(e::id.ge(EventId::first_at(since)))
        .order(e::id)
        .limit(limit)
        .select(e::created_us);
    let rows: Vec<Timestamp> = conn.read_by_index(|conn| on!(conn, c => rows.load(c)))?;
    Ok(KeptCount {
        events: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        first: rows.iter().min().copied(),
        last: rows.iter().max().copied(),
        oldest_version: None,
    })
}

/// The greatest version of `key` whose state began at `at` or before, of those that are kept; `since` names the field of
/// the payload that says when a state began, which never goes back from one version to the next.
///
/// The range of versions is halved until one is left: two probes of the index for each halving.
///
/// # Errors
/// When the statement fails.
pub fn kept_version_at(
    conn: &mut Conn,
    key: &str,
    at: Timestamp,
    since: &str,
) -> QueryResult<Option<i64>> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = BigInt)]
        version: i64,
    }
    // Both are written alike, in a fixed width, so their bytes are in the order of time.
    let (began, bytewise) = match conn {
        Conn::Pg(_) => ("e.payload::json ->> $2", "COLLATE \"C\""),
        Conn::Sqlite(_) => ("e.payload ->> $2", ""),
    };
    let edge = |order: &str| {
        format!(
            "(SELECT e.version FROM outbox_event e WHERE e.key = $1 AND e.kind = 0 \
              ORDER BY e.version {order} LIMIT 1)"
        )
    };
    let not_after = |version: &str| {
        format!(
            "(SELECT {began} FROM outbox_event e WHERE e.key = $1 AND e.kind = 0 AND e.version >= {version} \
              ORDER BY e.version, e.id LIMIT 1) {bytewise} <= $3"
        )
    };
    // SQLite takes a recursive table in no nested query, so the middle is probed for each of the two ends.
    let middle = "(h.low + (h.high - h.low) / 2)";
    let early = not_after(middle);
    let sql = format!(
        "WITH RECURSIVE halves (low, high) AS (SELECT {}, {} + 1 UNION ALL \
           SELECT CASE WHEN {early} THEN {middle} ELSE h.low END, \
                  CASE WHEN {early} THEN h.high ELSE {middle} END \
           FROM halves h WHERE h.high - h.low > 1) \
         SELECT h.low AS version FROM halves h WHERE h.high - h.low = 1 AND {}",
        edge("ASC"),
        edge("DESC"),
        not_after("h.low"),
    );
    let found: Vec<Found> = conn.read_by_index(|conn| {
        on!(conn, c => sql_query(sql)
            .bind::<Text, _>(key)
            .bind::<Text, _>(since)
            .bind::<Text, _>(at.to_string())
            .load(c))
    })?;
    Ok(found.first().map(|found| found.version))
}
