//! I2: one effect per event id.
//!
//! The inbox has each id once; that is its key. What is held here: whatever its sender calls PROCESSED is in the inbox, with
//! the same answer and about the same key, and whatever is in the inbox was sent by somebody. Each side is read before the
//! one that had to write first, so nothing that is only on its way is missed.

use std::collections::BTreeMap;

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side};
use super::kept::Kept;
use super::reader::{PAGE, Reader, maybe_number, of_ids};
use super::report::Report;
use super::suspects::Suspects;

/// One direction of the loop.
pub(super) struct Way<'a> {
    /// What the receiver calls itself in its answers.
    pub(super) consumer: &'a str,
}

/// An event that is PROCESSED at its sender.
#[derive(Debug, Clone, QueryableByName)]
struct SettledRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    /// 0 SUCCESS, 1 REJECTED.
    #[diesel(sql_type = SmallInt)]
    outcome: i16,
    #[diesel(sql_type = Text)]
    consumer: String,
    #[diesel(sql_type = BigInt)]
    settled_us: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    processed_us: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
}

/// An event that its receiver knows.
#[derive(Debug, Clone, QueryableByName)]
struct InboxRow {
    #[diesel(sql_type = EventIdSql)]
    event_id: EventId,
    #[diesel(sql_type = SmallInt)]
    outcome: i16,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = BigInt)]
    processed_us: Timestamp,
}

#[derive(Debug, QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Text)]
    key: String,
}

/// Looks at all events that `sender` calls PROCESSED, and at all that `receiver` knows.
pub(super) fn check(
    sender: &mut Reader,
    receiver: &mut Reader,
    way: &Way<'_>,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    check_settled(sender, receiver, way, kept, report)?;
    check_inbox(sender, receiver, (terms, kept), report)
}

fn check_settled(
    sender: &mut Reader,
    receiver: &mut Reader,
    way: &Way<'_>,
    kept: &Kept,
    report: &mut Report,
) -> Result<()> {
    let (side, mut others) = (sender.side, 0_u64);
    let take = |rows: Vec<SettledRow>| {
        let next = rows.last().map(|row| row.id);
        let (own, of_others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.consumer == way.consumer);
        others += of_others.len() as u64;
        let ids: Vec<EventId> = own.iter().map(|row| row.id).collect();
        let (known, forgotten) = receiver.page(|conn| known(conn, &ids))?;
        let may_be_gone = |row: &SettledRow| {
            let at = row.processed_us.unwrap_or(row.settled_us);
            row.id.made_at() <= forgotten || kept.may_be_lost_of(row.id, at)
        };
        for row in &own {
            report.tell_all(judge(row, known.get(&row.id), may_be_gone(row), side));
        }
        Ok(next)
    };
    let rows = sender.walk("settled events", EventId::NIL, settled, take)?;
    report.looked(Invariant::I2, side, "settled events, by the other's inbox", rows);
    if others > 0 {
        let (consumer, name) =
            (way.consumer, if side == Side::Product { "order" } else { "product" });
        report.unchecked(format!(
            "I2: {others} events of {side} were settled by another's answer than that of {consumer}: its inbox was not asked (--{name}-name, if it has another name)"
        ));
    }
    Ok(())
}

fn judge(
    row: &SettledRow,
    known: Option<&InboxRow>,
    may_be_gone: bool,
    side: Side,
) -> Option<Finding> {
    let name = |outcome: i16| if outcome == 0 { "SUCCESS" } else { "REJECTED" };
    let tell = |kind, expected: String, found: String| {
        Some(Finding::new(kind, side, row.id, expected, found))
    };
    let Some(known) = known else {
        if may_be_gone {
            return None;
        }
        let expected = format!("{} knows it, and answered {}", row.consumer, name(row.outcome));
        return tell(Kind::EffectMissing, expected, "its inbox does not have it".to_owned());
    };
    if row.key.as_ref().is_some_and(|key| *key != known.key) {
        let key = row.key.clone().unwrap_or_default();
        let found = format!("{} in the inbox of {}", known.key, row.consumer);
        return tell(Kind::EffectOfAnother, format!("about the key {key}"), found);
    }
    if row.outcome != known.outcome {
        let expected = format!("{}, as {} has it", name(known.outcome), row.consumer);
        return tell(Kind::AnswersDiffer, expected, name(row.outcome).to_owned());
    }
    None
}

fn check_inbox(
    sender: &mut Reader,
    receiver: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (from, to, mut suspects) = (sender.side, receiver.side, Suspects::default());
    let take = |rows: Vec<InboxRow>| {
        let next = rows.last().map(|row| row.event_id);
        let ids: Vec<EventId> = rows.iter().map(|row| row.event_id).collect();
        let sent = sender.page(|conn| sent(conn, &ids))?;
        let unknown = rows.into_iter().filter(|row| !sent.contains_key(&row.event_id));
        suspects.extend(unknown.filter(|row| is_missed(row, from, kept)));
        Ok(next)
    };
    let rows = receiver.walk("the inbox", EventId::NIL, inbox, take)?;
    report.looked(Invariant::I2, to, "the inbox, by the other's events", rows);
    let what = (Invariant::I2, "applied events");
    suspects.tell(
        what,
        report,
        || Kept::read(sender, receiver, terms),
        |row, kept| {
            let found = format!("it was applied at {} (key {})", row.processed_us, row.key);
            let finding =
                || Finding::new(Kind::EffectUnknown, to, row.event_id, "its sender has it", found);
            is_missed(row, from, kept).then(finding)
        },
    )
}

/// Whether the event of a row would be there, if its `sender` had ever had it.
fn is_missed(row: &InboxRow, sender: Side, kept: &Kept) -> bool {
    let kept_from = kept.events_of(sender);
    let is_young = row.event_id.made_at() > kept_from && row.processed_us > kept_from;
    is_young && !kept.may_be_lost_of(row.event_id, row.processed_us)
}

fn settled(conn: &mut Conn, after: &EventId) -> QueryResult<Vec<SettledRow>> {
    let sql = "SELECT s.id, s.outcome, s.consumer, s.settled_us, s.processed_us, e.key \
         FROM (SELECT id, outcome, consumer, settled_us, processed_us FROM outbox_settled \
               WHERE id > $1 ORDER BY id LIMIT $2) s \
         LEFT JOIN outbox_event e ON e.id = s.id ORDER BY s.id";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

fn inbox(conn: &mut Conn, after: &EventId) -> QueryResult<Vec<InboxRow>> {
    let sql = "SELECT event_id, outcome, key, processed_us FROM inbox \
               WHERE event_id > $1 ORDER BY event_id LIMIT $2";
    on!(conn, c => sql_query(sql).bind::<EventIdSql, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

/// Those of `ids` that the receiver knows, and up to when it may have forgotten what it knew.
fn known(
    conn: &mut Conn,
    ids: &[EventId],
) -> QueryResult<(BTreeMap<EventId, InboxRow>, Timestamp)> {
    let sql = "SELECT event_id, outcome, key, processed_us FROM inbox WHERE event_id {in}";
    let rows: Vec<InboxRow> = of_ids(conn, sql, ids)?;
    let noted = "SELECT up_to AS number FROM forgotten WHERE what = 'inbox'";
    let forgotten = maybe_number(conn, noted)?.unwrap_or(i64::MIN);
    let rows = rows.into_iter().map(|row| (row.event_id, row)).collect();
    Ok((rows, Timestamp::from_micros(forgotten)))
}

/// Those of `ids` that the sender has.
fn sent(conn: &mut Conn, ids: &[EventId]) -> QueryResult<BTreeMap<EventId, String>> {
    let rows: Vec<KeyRow> = of_ids(conn, "SELECT id, key FROM outbox_event WHERE id {in}", ids)?;
    Ok(rows.into_iter().map(|row| (row.id, row.key)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::kept::Restored;
    use super::*;

    #[test]
    fn a_reader_that_lags_may_know_what_its_sender_has_lost() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let (event_id, key) = (EventId::first_at(at(20)), "TEA".to_owned());
        let row = InboxRow { event_id, outcome: 0, key, processed_us: at(40) };
        let kept = Kept::from_all(at(1));
        assert!(is_missed(&row, Side::Product, &kept));
        let restored = Restored { since_us: Some(at(10)), found_us: at(30) };
        let kept = Kept { restored: vec![restored], ..kept };
        assert!(!is_missed(&row, Side::Product, &kept));
        let later = InboxRow { event_id: EventId::first_at(at(35)), ..row };
        assert!(is_missed(&later, Side::Product, &kept));
    }

    #[test]
    fn what_is_processed_is_known_with_the_same_answer() {
        let (id, at) = (EventId::MAX, Timestamp::default());
        let key = Some("TEA".to_owned());
        let consumer = "order-service".to_owned();
        let row = SettledRow { id, outcome: 0, consumer, settled_us: at, processed_us: None, key };
        let known = InboxRow { event_id: id, outcome: 0, key: "TEA".to_owned(), processed_us: at };
        let kind = |known: Option<&InboxRow>, gone| {
            judge(&row, known, gone, Side::Product).map(|finding| finding.kind)
        };
        assert_eq!(kind(Some(&known), false), None);
        assert_eq!(kind(None, true), None);
        assert_eq!(kind(None, false), Some(Kind::EffectMissing));
        let rejected = InboxRow { outcome: 1, ..known.clone() };
        assert_eq!(kind(Some(&rejected), true), Some(Kind::AnswersDiffer));
        let other = InboxRow { key: "MILK".to_owned(), ..known };
        assert_eq!(kind(Some(&other), false), Some(Kind::EffectOfAnother));
    }
}
