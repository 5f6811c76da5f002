//! Which versions of a key there are: what a newer one made superfluous, and a copy that is ahead of its source.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::{Conn, json_list};
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};

/// The newest events of a key that are looked through for a settled one: behind so many that are open, the next
/// settlement tells.
const LOOKED_THROUGH: i64 = 10_000;

/// Settled events of a key that are compared: clocks of instances differ, so the newest id need not be the newest version.
const COMPARED: i64 = 4;

/// Alerts that are looked at, newest first.
const ALERTS: i64 = 20_000;

/// The newest (epoch, version) of each of `keys` that is PROCESSED, of those that have one: one walk for each key, which
/// ends at the first settled event.
pub(in crate::outbox) fn newest_settled(
    conn: &mut Conn,
    keys: &BTreeSet<String>,
) -> QueryResult<BTreeMap<String, (i64, i64)>> {
    #[derive(QueryableByName)]
    struct Settled {
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = BigInt)]
        epoch: i64,
        #[diesel(sql_type = BigInt)]
        version: i64,
    }
    let newest = |key: &str| {
        format!(
            "SELECT n.key, n.epoch, n.version \
             FROM (SELECT id, key, epoch, version FROM outbox_event WHERE key = {key} AND kind = 0 \
                   ORDER BY id DESC LIMIT {LOOKED_THROUGH}) n \
             JOIN outbox_settled s ON s.id = n.id ORDER BY n.id DESC LIMIT {COMPARED}"
        )
    };
    let mut rows: Vec<Settled> = Vec::new();
    match conn {
        Conn::Pg(_) if keys.is_empty() => {}
        Conn::Pg(c) => {
            let sql = format!(
                "SELECT n.* FROM unnest($1) AS k (key) CROSS JOIN LATERAL ({}) n",
                newest("k.key")
            );
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            rows = sql_query(sql).bind::<Array<Text>, _>(keys).load(c)?;
        }
        Conn::Sqlite(c) => {
            for key in keys {
                rows.extend(sql_query(newest("$1")).bind::<Text, _>(key).load::<Settled>(c)?);
            }
        }
    }
    let mut settled: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for row in rows {
        let newest = settled.entry(row.key).or_default();
        *newest = (row.epoch, row.version).max(*newest);
    }
    Ok(settled)
}

/// A snapshot that gave up, with what it is.
#[derive(Debug, QueryableByName)]
pub(in crate::outbox) struct GaveUp {
    #[diesel(sql_type = EventIdSql)]
    pub(in crate::outbox) event_id: EventId,
    #[diesel(sql_type = Text)]
    pub(in crate::outbox) key: String,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) epoch: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::outbox) version: i64,
}

/// Snapshots with an open alert that was raised since `since`.
pub(in crate::outbox) fn gave_up_since(
    conn: &mut Conn,
    since: Timestamp,
) -> QueryResult<Vec<GaveUp>> {
    let sql = format!(
        "SELECT event_id, key, epoch, version \
         FROM (SELECT * FROM alert ORDER BY seq DESC LIMIT {ALERTS}) a \
         WHERE closed_us IS NULL AND kind = 'exhausted' AND event_kind = 0 AND created_us >= $1"
    );
    on!(conn, c => sql_query(sql).bind::<BigInt, _>(since).load(c))
}

/// Those of `copies` (an event, and the version that its key has in the copy) that are above all that was ever written
/// here, as far as events are kept.
///
/// The search goes from the newest version backwards: where all is well it ends at the first row, however many events a
/// key has, and whatever was sent again.
pub(in crate::outbox) fn above_source(
    conn: &mut Conn,
    copies: &[(EventId, i64)],
) -> QueryResult<Vec<(EventId, i64)>> {
    #[derive(QueryableByName)]
    struct Above {
        #[diesel(sql_type = EventIdSql)]
        id: EventId,
        #[diesel(sql_type = BigInt)]
        version: i64,
    }
    let written = "(SELECT 1 FROM outbox_event n WHERE n.key = e.key AND n.kind = 0 AND n.epoch >= e.epoch \
                      AND n.version >= c.version ORDER BY n.version DESC LIMIT 1)";
    let rows: Vec<Above> = match conn {
        Conn::Pg(c) => sql_query(format!(
            "SELECT c.id, c.version FROM unnest($1, $2) AS c (id, version) \
             JOIN outbox_event e ON e.id = c.id WHERE {written} IS NULL"
        ))
        .bind::<Array<EventIdSql>, _>(copies.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(copies.iter().map(|(_, version)| *version).collect::<Vec<_>>())
        .load(c)?,
        Conn::Sqlite(c) => sql_query(format!(
            "SELECT c.id, c.version FROM (SELECT json_extract(value, '$[0]') AS id, \
               json_extract(value, '$[1]') AS version FROM json_each(?)) c \
             JOIN outbox_event e ON e.id = c.id WHERE {written} IS NULL"
        ))
        .bind::<Text, _>(json_list(copies)?)
        .load(c)?,
    };
    Ok(rows.into_iter().map(|row| (row.id, row.version)).collect())
}
