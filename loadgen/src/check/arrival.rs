//! I1: every committed change is PROCESSED, or EXHAUSTED with an alert, or still open.
//!
//! An event lies in exactly one of the tables of what is open, or is settled; a transaction that moves it is seen whole or
//! not at all, so one page sees each event in its one place.

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::duration::written;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side};
use super::reader::{PAGE, Reader, number};
use super::report::Report;

/// An event, and all places where it lies.
#[derive(Debug, Clone, QueryableByName)]
struct EventRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
    #[diesel(sql_type = Bool)]
    pending: bool,
    #[diesel(sql_type = Bool)]
    sent: bool,
    /// 0 PENDING again, 2 EXHAUSTED.
    #[diesel(sql_type = Nullable<SmallInt>)]
    failed: Option<i16>,
    #[diesel(sql_type = Nullable<Integer>)]
    attempt: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    resolved_us: Option<Timestamp>,
    #[diesel(sql_type = Bool)]
    settled: bool,
    /// Open alerts about its exhaustion at that attempt.
    #[diesel(sql_type = BigInt)]
    alerts: i64,
}

/// What the tables of the open events call an EXHAUSTED one.
const EXHAUSTED: i16 = 2;

/// What a person holds up, or has to look at: rows, and what they are.
const HELD_UP: [(&str, &str); 3] = [
    ("relay_pause", "keys are paused: their events are not sent until somebody resumes them"),
    (
        "quarantine",
        "keys are in quarantine: their events are answered FAILED until somebody releases them",
    ),
    ("dead_letter WHERE state = 0", "dead letters wait for a person"),
];

/// What waits, for whom, and since when.
#[derive(Debug, Default)]
struct Waiting {
    on_their_way: u64,
    oldest: Option<Timestamp>,
    for_a_person: u64,
    resolved: u64,
}

/// Looks at all events of a service.
pub(super) fn check(reader: &mut Reader, terms: &Terms, report: &mut Report) -> Result<()> {
    let side = reader.side;
    let mut waiting = Waiting::default();
    let take = |rows: Vec<EventRow>| {
        let next = rows.last().map(|row| row.id);
        for row in &rows {
            waiting.count(row);
            report.tell_all(judge(row, side, terms.settled));
        }
        Ok(next)
    };
    let rows = reader.walk("events", EventId::NIL, events, take)?;
    report.looked(Invariant::I1, side, "events", rows);
    waiting.tell(side, terms, report);
    for (rows, words) in HELD_UP {
        let many =
            reader.page(|conn| number(conn, &format!("SELECT count(*) AS number FROM {rows}")))?;
        if many > 0 {
            report.note(format!("{side}: {many} {words}"));
        }
    }
    for table in ["outbox_pending", "outbox_sent", "outbox_failed", "outbox_settled"] {
        check_bodies(reader, table, report)?;
    }
    Ok(())
}

/// What is wrong with an event.
fn judge(row: &EventRow, side: Side, all_settled: bool) -> Option<Finding> {
    let places = places(row);
    let at = |kind, expected: &str, found: String| {
        Some(Finding::new(kind, side, row.id, expected, format!("{found} (key {})", row.key)))
    };
    match places.as_slice() {
        [] => at(
            Kind::EventLost,
            "it is PENDING, SENT, EXHAUSTED or PROCESSED",
            format!("no such row; it was committed at {}", row.created_us),
        ),
        [_, _, ..] => at(Kind::EventInTwoPlaces, "one place", places.join(" and ")),
        [_] if row.failed == Some(EXHAUSTED) => {
            if row.resolved_us.is_some() || row.alerts > 0 {
                return None;
            }
            let attempt = row.attempt.unwrap_or_default();
            let found =
                format!("EXHAUSTED at attempt {attempt}, and no open alert of that attempt");
            at(Kind::ExhaustedWithoutAlert, "an open alert about it", found)
        }
        [place] if all_settled && !row.settled => at(
            Kind::StillOpen,
            "PROCESSED or EXHAUSTED",
            format!("{place} since {}", row.created_us),
        ),
        [_] => None,
    }
}

fn places(row: &EventRow) -> Vec<&'static str> {
    let failed = match row.failed {
        Some(EXHAUSTED) => "EXHAUSTED",
        _ => "PENDING again",
    };
    let all = [
        (row.pending, "PENDING"),
        (row.sent, "SENT"),
        (row.failed.is_some(), failed),
        (row.settled, "PROCESSED"),
    ];
    all.into_iter().filter_map(|(is_there, place)| is_there.then_some(place)).collect()
}

impl Waiting {
    fn count(&mut self, row: &EventRow) {
        match (row.failed, row.resolved_us) {
            (Some(EXHAUSTED), None) => self.for_a_person += 1,
            (Some(EXHAUSTED), Some(_)) => self.resolved += 1,
            _ if row.pending || row.sent || row.failed.is_some() => {
                self.on_their_way += 1;
                let oldest = self.oldest.map_or(row.created_us, |at| at.min(row.created_us));
                self.oldest = Some(oldest);
            }
            _ => {}
        }
    }

    fn tell(&self, side: Side, terms: &Terms, report: &mut Report) {
        if let Some(oldest) = self.oldest {
            let seconds = std::time::Duration::from_secs(terms.now.since(oldest).as_secs());
            let (many, age) = (self.on_their_way, written(seconds));
            report.note(format!(
                "{side}: {many} events are on their way, the oldest for {age} (since {oldest})"
            ));
        }
        if self.for_a_person > 0 {
            let many = self.for_a_person;
            report.note(format!("{side}: {many} EXHAUSTED events wait for a person"));
        }
        if self.resolved > 0 {
            let many = self.resolved;
            report.note(format!("{side}: {many} EXHAUSTED events are resolved without an answer"));
        }
    }
}

fn events(conn: &mut Conn, after: &EventId) -> QueryResult<Vec<EventRow>> {
    let sql = "SELECT e.id, e.key, e.created_us, p.id IS NOT NULL AS pending, w.id IS NOT NULL AS sent, \
           f.status AS failed, f.attempt, f.resolved_us, s.id IS NOT NULL AS settled, \
           (SELECT count(*) FROM alert a WHERE a.event_id = f.id AND a.attempt = f.attempt \
              AND a.kind = 'exhausted' AND a.closed_us IS NULL) AS alerts \
         FROM (SELECT id, key, created_us FROM outbox_event WHERE id > $1 ORDER BY id LIMIT $2) e \
         LEFT JOIN outbox_pending p ON p.id = e.id \
         LEFT JOIN outbox_sent w ON w.id = e.id \
         LEFT JOIN outbox_failed f ON f.id = e.id \
         LEFT JOIN outbox_settled s ON s.id = e.id \
         ORDER BY e.id";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

#[derive(Debug, QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Bool)]
    known: bool,
    /// None of what is settled.
    #[diesel(sql_type = Nullable<SmallInt>)]
    shard: Option<i16>,
}

/// The shards that relays read.
const SHARDS: std::ops::Range<i16> = 0..64;

/// Each row of `table` has its event, and a shard that a relay reads.
fn check_bodies(reader: &mut Reader, table: &'static str, report: &mut Report) -> Result<()> {
    let side = reader.side;
    let shard = if table == "outbox_settled" { "CAST(NULL AS SMALLINT) AS shard" } else { "shard" };
    let sql = format!(
        "SELECT t.id, EXISTS (SELECT 1 FROM outbox_event e WHERE e.id = t.id) AS known, t.shard \
         FROM (SELECT id, {shard} FROM {table} WHERE id > $1 ORDER BY id LIMIT $2) t ORDER BY t.id"
    );
    let read = |conn: &mut Conn, after: &EventId| on!(conn, c => sql_query(&sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load::<PlaceRow>(c));
    let take = |rows: Vec<PlaceRow>| {
        rows.iter().for_each(|row| report.tell_all(judge_place(row, table, side)));
        Ok(rows.last().map(|row| row.id))
    };
    let rows = reader.walk(table, EventId::NIL, read, take)?;
    report.looked(Invariant::I1, side, table, rows);
    Ok(())
}

fn judge_place(row: &PlaceRow, table: &str, side: Side) -> Option<Finding> {
    if !row.known {
        let (expected, found) = ("its row of outbox_event", format!("only a row of {table}"));
        return Some(Finding::new(Kind::EventWithoutBody, side, row.id, expected, found));
    }
    let shard = row.shard.filter(|shard| !SHARDS.contains(shard))?;
    let (expected, found) = ("a shard from 0 to 63: no relay reads others", shard.to_string());
    Some(Finding::new(Kind::EventLost, side, row.id, expected, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> EventRow {
        EventRow {
            id: EventId::MAX,
            key: "TEA".to_owned(),
            created_us: Timestamp::default(),
            pending: false,
            sent: false,
            failed: None,
            attempt: None,
            resolved_us: None,
            settled: false,
            alerts: 0,
        }
    }

    fn kind(row: &EventRow, settled: bool) -> Option<Kind> {
        judge(row, Side::Product, settled).map(|finding| finding.kind)
    }

    #[test]
    fn an_event_has_one_place() {
        assert_eq!(kind(&row(), false), Some(Kind::EventLost));
        assert_eq!(kind(&EventRow { settled: true, ..row() }, true), None);
        let two = EventRow { settled: true, sent: true, ..row() };
        assert_eq!(kind(&two, false), Some(Kind::EventInTwoPlaces));
    }

    #[test]
    fn an_open_row_has_its_event_and_a_shard_that_is_read() {
        let kind = |known, shard| {
            let row = PlaceRow { id: EventId::MAX, known, shard };
            judge_place(&row, "outbox_pending", Side::Product).map(|finding| finding.kind)
        };
        assert_eq!(kind(true, Some(63)), None);
        assert_eq!(kind(true, None), None);
        assert_eq!(kind(true, Some(64)), Some(Kind::EventLost));
        assert_eq!(kind(true, Some(-1)), Some(Kind::EventLost));
        assert_eq!(kind(false, Some(0)), Some(Kind::EventWithoutBody));
    }

    #[test]
    fn what_waits_is_a_finding_only_at_rest() {
        let again = EventRow { failed: Some(0), attempt: Some(1), ..row() };
        for waits in [EventRow { pending: true, ..row() }, EventRow { sent: true, ..row() }, again]
        {
            assert_eq!(kind(&waits, false), None);
            assert_eq!(kind(&waits, true), Some(Kind::StillOpen));
        }
    }

    #[test]
    fn an_exhausted_event_has_its_alert_until_it_is_resolved() {
        let exhausted = EventRow { failed: Some(EXHAUSTED), attempt: Some(3), ..row() };
        assert_eq!(kind(&exhausted, false), Some(Kind::ExhaustedWithoutAlert));
        assert_eq!(kind(&EventRow { alerts: 1, ..exhausted.clone() }, true), None);
        let resolved = EventRow { resolved_us: Some(Timestamp::default()), ..exhausted };
        assert_eq!(kind(&resolved, true), None);
    }
}
