//! Answers that no event waits for: how far a watched consumer is, and what it failed.

use std::collections::{BTreeMap, HashMap};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::EventKind;
use common::ids::EventId;
use diesel::QueryResult;

use super::model::AnswerRow;
use super::store;
use crate::kafka::{Ack, Verdict};

/// Answers that one statement takes: below SQLite's limit of bind parameters.
const ACKS: usize = 1_000;

/// Notes what `acks` of watched consumers say.
pub(super) fn note(conn: &mut Conn, topic: &str, acks: &[&Ack], now: Timestamp) -> QueryResult<()> {
    for acks in acks.chunks(ACKS) {
        note_failures(conn, acks)?;
        let answered = progress(conn, topic, acks)?;
        store::mark_answered(conn, topic, &answered, now)?;
    }
    Ok(())
}

fn note_failures(conn: &mut Conn, acks: &[&Ack]) -> QueryResult<()> {
    let mut passed: BTreeMap<&str, Vec<EventId>> = BTreeMap::new();
    // The last word counts, as they came.
    let mut last: BTreeMap<(EventId, &str), &Ack> = BTreeMap::new();
    for ack in acks {
        last.insert((ack.event_id, &ack.consumer), ack);
    }
    let failed = last.values().filter(|ack| ack.outcome == Verdict::Failed);
    let failed: Vec<EventId> = failed.map(|ack| ack.event_id).collect();
    for ((id, consumer), ack) in &last {
        if ack.outcome != Verdict::Failed {
            passed.entry(consumer).or_default().push(*id);
        }
    }
    for (consumer, ids) in passed {
        store::end_failures(conn, consumer, &ids)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let known: BTreeMap<EventId, EventKind> =
        store::facts_of(conn, &failed)?.into_iter().map(|facts| (facts.id, facts.kind)).collect();
    let earlier: HashMap<(EventId, String), i32> = store::answers(conn, &failed)?
        .into_iter()
        .map(|row| ((row.event_id, row.consumer), row.failures))
        .collect();
    let row = |ack: &&Ack| {
        let kind = *known.get(&ack.event_id).filter(|_| ack.outcome == Verdict::Failed)?;
        let row = AnswerRow::of((*ack).clone(), kind);
        let failures = earlier.get(&(row.event_id, row.consumer.clone())).copied().unwrap_or(0);
        Some(AnswerRow { failures: failures.saturating_add(row.failures), ..row })
    };
    let rows: Vec<AnswerRow> = last.values().filter_map(row).collect();
    store::save_answers(conn, &rows)
}

/// How far these answers prove their consumers to be: to where others were before, or to where the event lies that is
/// still SENT. What lies behind both was said of a topic that was made anew since.
fn progress(
    conn: &mut Conn,
    topic: &str,
    acks: &[&Ack],
) -> QueryResult<BTreeMap<(String, i32), Option<i64>>> {
    let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in store::acked(conn, topic)? {
        let last = reached.entry(partition).or_insert(-1);
        *last = (*last).max(offset.unwrap_or(-1));
    }
    let ids: Vec<EventId> = acks.iter().map(|ack| ack.event_id).collect();
    for (_, partition, offset) in store::places(conn, &ids)? {
        let last = reached.entry(partition).or_insert(-1);
        *last = (*last).max(offset.unwrap_or(-1));
    }
    let mut answered: BTreeMap<(String, i32), Option<i64>> = BTreeMap::new();
    for ack in acks {
        let (Some(partition), Some(offset)) = (ack.partition, ack.offset) else { continue };
        // A partition that nobody knows is none of this topic.
        let Some(last) = reached.get(&partition) else { continue };
        let proven = Some(offset).filter(|offset| offset <= last);
        let heard = answered.entry((ack.consumer.clone(), partition)).or_default();
        *heard = (*heard).max(proven);
    }
    Ok(answered)
}
