//! The end of alerts: closed in sets, in the transaction that ends their cause.

use common::clock::Timestamp;
use common::db::{Conn, json_list};
use common::event::EventKind;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::alert;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use diesel::{QueryResult, sql_query};

use super::model::{AlertKind, CHUNK};

/// Closes the open exhaustion alerts of `events`, for the reason `because` (such as `processed`); how many.
///
/// Costs one look at an index when nothing is open.
///
/// # Errors
/// When a statement fails.
pub fn close(
    conn: &mut Conn,
    now: Timestamp,
    events: &[EventId],
    because: &str,
) -> QueryResult<usize> {
    if events.is_empty() || !any_open(conn)? {
        return Ok(0);
    }
    let mut found = Vec::new();
    for chunk in events.chunks(CHUNK) {
        found.extend(lock_open_of(conn, chunk)?);
    }
    close_found(conn, now, &found, because)
}

/// At most `limit` of the events with open exhaustion alerts that are snapshots older than what is now PROCESSED of
/// their key.
///
/// `processed` holds (key, epoch, version). Nothing is locked or closed: the caller, who locks events before
/// alerts, marks them resolved and closes. Costs one look at an index when nothing is open.
///
/// # Errors
/// When a statement fails.
pub fn superseded_by(
    conn: &mut Conn,
    processed: &[(String, i64, i64)],
    limit: usize,
) -> QueryResult<Vec<EventId>> {
    if processed.is_empty() || !any_open(conn)? {
        return Ok(Vec::new());
    }
    let superseded = older_than(conn, processed, limit)?;
    let mut events: Vec<EventId> = superseded.into_iter().map(|row| row.event_id).collect();
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

/// The keys of open alerts of a kind.
///
/// # Errors
/// When a statement fails.
pub fn open_keys(conn: &mut Conn, kind: AlertKind) -> QueryResult<Vec<String>> {
    if !any_open(conn)? {
        return Ok(Vec::new());
    }
    let keys = alert::table
        .filter(alert::closed_us.is_null().and(alert::kind.eq(kind.name())))
        .select(alert::key.assume_not_null())
        .filter(alert::key.is_not_null());
    on!(conn, c => keys.load(c))
}

/// Closes open alerts of a kind, such as silences once answers come again; with `key`, only that key's.
///
/// # Errors
/// When a statement fails.
pub fn close_kind(
    conn: &mut Conn,
    now: Timestamp,
    kind: AlertKind,
    key: Option<&str>,
    because: &str,
) -> QueryResult<usize> {
    if !any_open(conn)? {
        return Ok(0);
    }
    let open = alert::table
        .filter(alert::closed_us.is_null())
        .filter(alert::kind.eq(kind.name()))
        .order(alert::seq)
        .select(alert::seq);
    let seqs: Vec<i64> = match key {
        Some(key) => {
            let open = open.filter(alert::key.eq(key));
            on!(conn, c => open.load(c))?
        }
        None => on!(conn, c => open.load(c))?,
    };
    close_found(conn, now, &seqs, because)
}

/// Closes open alerts of a kind that are about `key`, or about none.
///
/// # Errors
/// When a statement fails.
pub fn close_about(
    conn: &mut Conn,
    now: Timestamp,
    kind: AlertKind,
    key: Option<&str>,
    because: &str,
) -> QueryResult<usize> {
    let seqs = open_about(conn, kind, key)?;
    match seqs.is_empty() {
        true => Ok(0),
        false => close_found(conn, now, &seqs, because),
    }
}

/// Whether an alert of a kind is open that is about `key`, or about none.
///
/// # Errors
/// When a statement fails.
pub fn is_open(conn: &mut Conn, kind: AlertKind, key: Option<&str>) -> QueryResult<bool> {
    Ok(!open_about(conn, kind, key)?.is_empty())
}

/// What an open alert of a kind that is about no key says is wrong; none: there is none.
///
/// # Errors
/// When a statement fails.
pub fn open_error(conn: &mut Conn, kind: AlertKind) -> QueryResult<Option<String>> {
    if !any_open(conn)? {
        return Ok(None);
    }
    let open = alert::table
        .filter(alert::closed_us.is_null().and(alert::key.is_null()))
        .filter(alert::kind.eq(kind.name()))
        .select(alert::error);
    let error: Option<Option<String>> = on!(conn, c => open.first(c).optional())?;
    Ok(error.flatten())
}

fn open_about(conn: &mut Conn, kind: AlertKind, key: Option<&str>) -> QueryResult<Vec<i64>> {
    if !any_open(conn)? {
        return Ok(Vec::new());
    }
    let open = alert::table
        .filter(alert::closed_us.is_null())
        .filter(alert::kind.eq(kind.name()))
        .order(alert::seq)
        .select(alert::seq);
    match key {
        Some(key) => {
            let open = open.filter(alert::key.eq(key));
            on!(conn, c => open.load(c))
        }
        None => {
            let open = open.filter(alert::key.is_null());
            on!(conn, c => open.load(c))
        }
    }
}

/// Whether any alert is open, answered by the partial index on open ones.
///
/// The order keeps the plan on that index, also one that was made while most alerts were open.
pub(crate) fn any_open(conn: &mut Conn) -> QueryResult<bool> {
    let first = alert::table
        .filter(alert::closed_us.is_null())
        .order(alert::key)
        .limit(1)
        .select(alert::seq);
    on!(conn, c => first.load::<i64>(c)).map(|found| !found.is_empty())
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

/// Open exhaustion alerts of events, locked in the order of their numbers where the database locks rows.
fn lock_open_of(conn: &mut Conn, events: &[EventId]) -> QueryResult<Vec<i64>> {
    match conn {
        // Given as text, so planned anew each time: a plan kept from a time with few alerts would walk all of many.
        Conn::Pg(c) => sql_query(
            "SELECT seq FROM alert WHERE event_id = ANY($1) AND closed_us IS NULL AND kind = 'exhausted' \
             ORDER BY seq FOR UPDATE",
        )
        .bind::<Array<EventIdSql>, _>(events)
        .load::<Found>(c)
        .map(|found| found.into_iter().map(|row| row.seq).collect()),
        Conn::Sqlite(c) => alert::table
            .filter(alert::closed_us.is_null())
            .filter(alert::kind.eq(AlertKind::Exhausted.name()))
            .filter(alert::event_id.eq_any(events))
            .order(alert::seq)
            .select(alert::seq)
            .load(c),
    }
}

fn close_found(conn: &mut Conn, now: Timestamp, seqs: &[i64], because: &str) -> QueryResult<usize> {
    let mut closed = 0;
    for chunk in seqs.chunks(CHUNK) {
        closed += match conn {
            // As text for the same reason as above.
            Conn::Pg(c) => sql_query(
                "UPDATE alert SET closed_us = $2, closed_because = $3 \
                 WHERE seq = ANY($1) AND closed_us IS NULL",
            )
            .bind::<Array<BigInt>, _>(chunk)
            .bind::<BigInt, _>(now)
            .bind::<Text, _>(because)
            .execute(c),
            Conn::Sqlite(c) => {
                let open = alert::table
                    .filter(alert::seq.eq_any(chunk))
                    .filter(alert::closed_us.is_null());
                diesel::update(open)
                    .set((alert::closed_us.eq(now), alert::closed_because.eq(because)))
                    .execute(c)
            }
        }?;
    }
    Ok(closed)
}

#[derive(QueryableByName)]
struct Superseded {
    #[diesel(sql_type = EventIdSql)]
    event_id: EventId,
}

const OLDER: &str = "WHERE a.closed_us IS NULL AND a.key = k.key AND a.kind = 'exhausted' \
     AND (a.epoch, a.version) < (k.epoch, k.version) AND a.event_kind =";

/// Open exhaustion alerts of snapshots below the given versions: lists are arrays here and JSON there.
fn older_than(
    conn: &mut Conn,
    processed: &[(String, i64, i64)],
    limit: usize,
) -> QueryResult<Vec<Superseded>> {
    let snapshot = EventKind::Snapshot.code();
    match conn {
        Conn::Pg(c) => {
            let keys: Vec<&str> = processed.iter().map(|(key, ..)| key.as_str()).collect();
            let epochs: Vec<i64> = processed.iter().map(|(_, epoch, _)| *epoch).collect();
            let versions: Vec<i64> = processed.iter().map(|(.., version)| *version).collect();
            sql_query(format!(
                "SELECT a.event_id FROM alert a JOIN unnest($1, $2, $3) AS k(key, epoch, version) ON true \
                 {OLDER} {snapshot} LIMIT {limit}"
            ))
            .bind::<Array<Text>, _>(keys)
            .bind::<Array<BigInt>, _>(epochs)
            .bind::<Array<BigInt>, _>(versions)
            .load(c)
        }
        Conn::Sqlite(c) => sql_query(format!(
            "SELECT a.event_id FROM (SELECT value ->> 0 AS key, value ->> 1 AS epoch, \
             value ->> 2 AS version FROM json_each(?)) AS k CROSS JOIN alert a {OLDER} {snapshot} LIMIT {limit}"
        ))
        .bind::<Text, _>(json_list(processed)?)
        .load(c),
    }
}
