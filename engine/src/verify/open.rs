//! Which events of a key its consumer may still have to take.
//!
//! What a required consumer owes is open until it has answered, whatever others still owe. A watched one answers no single
//! event: what others have is open for it until its answers have come as far as theirs.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::ids::{EventId, EventIdSql};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::judge::OpenEvent;
use crate::consumers::{Consumers, Voice};
use crate::outbox::{Behind, FIRST_ANSWER, behind};

/// Events of a key that are looked through for one that is open, newest first. That of the owner's state is the one that
/// counts, and is among them unless instances' clocks differ: then their ids are not in the order of their versions.
const FEW: usize = 16;

/// So many are looked through, the newest versions first, where the event of the owner's state is not among those.
const MANY: usize = 256;

/// Settled, in place of a [`Status`] that is open.
const SETTLED: i16 = -1;

/// Whose copy is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// What it calls itself in its answers.
    pub(super) consumer: String,
    /// Where events go.
    pub(super) topic: String,
    /// When.
    pub(super) now: Timestamp,
}

/// Which events of a key are looked through.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// The newest ones.
    Newest,
    /// Those of the newest versions, whatever was sent again since.
    NewestVersions,
}

impl Order {
    /// As SQL has it, with how many.
    const fn sql(self) -> (&'static str, usize) {
        match self {
            Self::Newest => ("id DESC", FEW),
            Self::NewestVersions => ("version DESC, id DESC", MANY),
        }
    }
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Nullable<Integer>)]
    partition: Option<i32>,
    #[diesel(sql_type = Bool)]
    answered: bool,
}

/// The open event of each key that has one: one that is on its way, if there is one, else the newest. `versions` are those
/// of the owner's states.
pub(super) fn open_events(
    conn: &mut Conn,
    asked: &Asked,
    keys: &[String],
    versions: &BTreeMap<String, i64>,
) -> QueryResult<BTreeMap<String, OpenEvent>> {
    let consumers = Consumers::registered(conn)?;
    let voice = |id| consumers.voice(&asked.consumer, id);
    let mut rows = by_key(conn, asked, keys, Order::Newest)?;
    let hidden: Vec<String> = rows
        .iter()
        .filter(|(key, of)| hides(of, versions.get(*key)))
        .map(|(key, _)| key.clone())
        .collect();
    if !hidden.is_empty() {
        for (key, of) in by_key(conn, asked, &hidden, Order::NewestVersions)? {
            rows.entry(key).or_default().extend(of);
        }
    }
    // After the events: whoever is not behind by now has what was settled then. One that was asked about all events has
    // answered what is settled.
    let behind = match voice(EventId::NIL) {
        Voice::Watched => behind(conn, &asked.topic, &asked.consumer)?,
        _ => Vec::new(),
    };
    let may_come =
        |one: &Behind| one.has_answered || asked.now.since(one.reached_at) < FIRST_ANSWER;
    let behind: BTreeSet<i32> =
        behind.into_iter().filter(may_come).map(|one| one.partition).collect();
    let open = rows.into_iter().filter_map(|(key, of)| {
        let open = of.iter().filter_map(|row| row.open(voice(row.id), &behind));
        let event = open.max_by_key(|event| (event.on_its_way, event.id))?;
        Some((key, event))
    });
    Ok(open.collect())
}

/// Whether the event that brought the `version` of the owner's state may lie behind these, the newest ones.
fn hides(of: &[EventRow], version: Option<&i64>) -> bool {
    let newest = of.iter().map(|row| row.version).max();
    of.len() >= FEW && newest < version.copied()
}

fn by_key(
    conn: &mut Conn,
    asked: &Asked,
    keys: &[String],
    order: Order,
) -> QueryResult<BTreeMap<String, Vec<EventRow>>> {
    let rows = conn.read_by_index(|conn| events(conn, &asked.consumer, keys, order))?;
    let mut by_key: BTreeMap<String, Vec<EventRow>> = BTreeMap::new();
    for row in rows {
        by_key.entry(row.key.clone()).or_default().push(row);
    }
    Ok(by_key)
}

impl EventRow {
    /// The event, if the consumer may still have to take it; `behind` are the partitions in which others are further.
    fn open(&self, voice: Voice, behind: &BTreeSet<i32>) -> Option<OpenEvent> {
        let lags = self.partition.is_some_and(|partition| behind.contains(&partition));
        let is_open = match (voice, self.status) {
            (Voice::Watched, SETTLED) => lags,
            (_, SETTLED) => false,
            _ => !self.answered,
        };
        let on_its_way = self.status != Status::Exhausted.code();
        is_open.then_some(OpenEvent { id: self.id, on_its_way })
    }
}

fn events(
    conn: &mut Conn,
    consumer: &str,
    keys: &[String],
    order: Order,
) -> QueryResult<Vec<EventRow>> {
    let (order, limit) = order.sql();
    let of = |key: &str, consumer: &str| {
        format!(
            "SELECT n.key, n.id, n.version, COALESCE(w.partition, f.partition, t.partition) AS partition, \
               CASE WHEN p.id IS NOT NULL THEN 0 WHEN w.id IS NOT NULL THEN 1 WHEN f.id IS NOT NULL THEN f.status \
                 ELSE {SETTLED} END AS status, \
               EXISTS (SELECT 1 FROM outbox_answer a \
                 WHERE a.event_id = n.id AND a.consumer = {consumer} AND a.outcome < 2) AS answered \
             FROM (SELECT id, key, version FROM outbox_event WHERE key = {key} AND kind = 0 \
               ORDER BY {order} LIMIT {limit}) n \
             LEFT JOIN outbox_pending p ON p.id = n.id \
             LEFT JOIN outbox_sent w ON w.id = n.id \
             LEFT JOIN outbox_failed f ON f.id = n.id \
             LEFT JOIN outbox_settled t ON t.id = n.id"
        )
    };
    match conn {
        Conn::Pg(c) => {
            let sql = format!(
                "SELECT o.key, o.id, o.version, o.status::smallint AS status, o.partition, o.answered \
                 FROM unnest($1) AS k (key) CROSS JOIN LATERAL ({}) o",
                of("k.key", "$2")
            );
            sql_query(sql).bind::<Array<Text>, _>(keys).bind::<Text, _>(consumer).load(c)
        }
        Conn::Sqlite(c) => {
            let (sql, mut rows) = (of("$2", "$1"), Vec::new());
            for key in keys {
                let found = sql_query(&sql).bind::<Text, _>(consumer).bind::<Text, _>(key);
                rows.extend(found.load::<EventRow>(c)?);
            }
            Ok(rows)
        }
    }
}
