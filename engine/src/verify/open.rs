//! Which events of a key its consumer may still have to take.
//!
//! What a required consumer owes is open until it has answered, whatever others still owe. A watched one answers no single
//! event: what others have is open for it until its answers have come as far as theirs.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::event::Status;
use common::ids::{EventId, EventIdSql};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Integer, Nullable, SmallInt, Text};

use super::judge::OpenEvent;
use crate::consumers::{Consumers, Voice};
use crate::outbox::partitions_behind;

/// Events of a key that are looked through for one that is open, newest first: instances' clocks differ, so the newest
/// id need not be that of the newest version.
const EVENTS: i64 = 16;

/// Settled, in place of a [`Status`] that is open.
const SETTLED: i16 = -1;

/// Whose copy is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// What it calls itself in its answers.
    pub(super) consumer: String,
    /// Where events go.
    pub(super) topic: String,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Nullable<Integer>)]
    partition: Option<i32>,
    #[diesel(sql_type = Bool)]
    answered: bool,
}

/// The open event of each key that has one: one that is on its way, if there is one, else the newest.
pub(super) fn open_events(
    conn: &mut Conn,
    asked: &Asked,
    keys: &[String],
) -> QueryResult<BTreeMap<String, OpenEvent>> {
    let consumers = Consumers::registered(conn)?;
    let voice = |id| consumers.voice(&asked.consumer, id);
    // One that was asked about all events has answered what is settled.
    let also_settled = voice(EventId::NIL) == Voice::Watched;
    let rows = conn.read_by_index(|conn| events(conn, &asked.consumer, keys, also_settled))?;
    // After the events: whoever is not behind by now has what was settled then.
    let behind = match also_settled {
        true => partitions_behind(conn, &asked.topic, &asked.consumer)?,
        false => BTreeSet::new(),
    };
    let mut open: BTreeMap<String, OpenEvent> = BTreeMap::new();
    for row in rows {
        let Some(event) = row.open(voice(row.id), &behind) else { continue };
        let known = open.entry(row.key).or_insert(event);
        if (event.on_its_way, event.id) > (known.on_its_way, known.id) {
            *known = event;
        }
    }
    Ok(open)
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
    also_settled: bool,
) -> QueryResult<Vec<EventRow>> {
    let which = match also_settled {
        true => "",
        false => "WHERE p.id IS NOT NULL OR w.id IS NOT NULL OR f.id IS NOT NULL",
    };
    let of = |key: &str, consumer: &str| {
        format!(
            "SELECT n.key, n.id, COALESCE(w.partition, f.partition, t.partition) AS partition, \
               CASE WHEN p.id IS NOT NULL THEN 0 WHEN w.id IS NOT NULL THEN 1 WHEN f.id IS NOT NULL THEN f.status \
                 ELSE {SETTLED} END AS status, \
               EXISTS (SELECT 1 FROM outbox_answer a \
                 WHERE a.event_id = n.id AND a.consumer = {consumer} AND a.outcome < 2) AS answered \
             FROM (SELECT id, key FROM outbox_event WHERE key = {key} AND kind = 0 ORDER BY id DESC LIMIT {EVENTS}) n \
             LEFT JOIN outbox_pending p ON p.id = n.id \
             LEFT JOIN outbox_sent w ON w.id = n.id \
             LEFT JOIN outbox_failed f ON f.id = n.id \
             LEFT JOIN outbox_settled t ON t.id = n.id {which}"
        )
    };
    match conn {
        Conn::Pg(c) => {
            let sql = format!(
                "SELECT o.key, o.id, o.status::smallint AS status, o.partition, o.answered \
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
