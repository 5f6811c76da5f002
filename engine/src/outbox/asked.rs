//! The answers to events that more than one consumer is asked about, within one step.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::event::EventKind;
use common::ids::EventId;
use diesel::QueryResult;

use super::model::{AnswerRow, Said};
use super::state::Trigger;
use super::store;
use crate::consumers::Consumers;
use crate::kafka::Ack;

/// Who owes what: the consumers, and what they said of the events in hand. With one consumer it holds nothing and costs
/// nothing: its answer is the event's.
pub(super) struct Asked<'a> {
    consumers: Option<&'a Consumers>,
    answers: BTreeMap<EventId, Vec<AnswerRow>>,
    /// What is new: of which event, and who said it.
    changed: BTreeSet<(EventId, String)>,
}

impl<'a> Asked<'a> {
    /// What was said of `ids`, which are locked, so that two answers to one event never miss each other.
    pub(super) fn load(
        conn: &mut Conn,
        consumers: Option<&'a Consumers>,
        ids: &[EventId],
    ) -> QueryResult<Self> {
        let consumers = consumers.filter(|consumers| consumers.share_events());
        let mut answers: BTreeMap<EventId, Vec<AnswerRow>> = BTreeMap::new();
        if consumers.is_some() {
            for row in store::answers(conn, ids)? {
                answers.entry(row.event_id).or_default().push(row);
            }
        }
        Ok(Self { consumers, answers, changed: BTreeSet::new() })
    }

    /// Takes an answer down, and returns what it means for its event: an answer for good counts once it is the last that
    /// is owed; what a consumer says after such an answer is nothing new.
    pub(super) fn take(&mut self, ack: &Ack, kind: EventKind, trigger: Trigger) -> Trigger {
        let Some(consumers) = self.consumers else { return trigger };
        let row = AnswerRow::of(ack.clone(), kind);
        let is_final = row.is_final();
        let said = self.answers.entry(ack.event_id).or_default();
        let earlier = said.iter().position(|one| one.consumer == row.consumer);
        match earlier.and_then(|at| said.get_mut(at)) {
            Some(earlier) if earlier.is_final() => {}
            Some(earlier) => {
                *earlier = AnswerRow { failures: earlier.failures + row.failures, ..row };
                self.changed.insert((ack.event_id, ack.consumer.clone()));
            }
            None => {
                said.push(row);
                self.changed.insert((ack.event_id, ack.consumer.clone()));
            }
        }
        let had_answered = said.iter().any(|one| one.consumer == ack.consumer && one.is_final());
        match (is_final, had_answered, owes(consumers, said, ack.event_id)) {
            (true, _, Some(_)) | (false, true, _) => Trigger::Answered,
            _ => trigger,
        }
    }

    /// Whether nobody owes an answer to `id` any more.
    pub(super) fn is_settled(&self, id: EventId) -> bool {
        let said = self.answers.get(&id);
        let is_any = said.is_some_and(|said| said.iter().any(AnswerRow::is_final));
        let owed = |consumers| owes(consumers, said.map_or(&[], Vec::as_slice), id);
        is_any && self.consumers.and_then(owed).is_none()
    }

    /// The answer that stands for all: a REJECTED one before others, and that of the first consumer before others.
    pub(super) fn decisive(&self, id: EventId) -> Option<AnswerRow> {
        let first = self.consumers.map(Consumers::first);
        let said = self.answers.get(&id)?.iter().filter(|one| one.is_final());
        let rank = |one: &&AnswerRow| {
            (one.outcome == Said::Rejected, Some(one.consumer.as_str()) == first)
        };
        said.max_by_key(rank).cloned()
    }

    /// Whether more than one consumer is asked, so that what is told has to say which.
    pub(super) fn are_several(&self) -> bool {
        self.consumers.is_some()
    }

    /// Writes down what is new, and nothing besides: what others said of the same events is there.
    pub(super) fn save(&self, conn: &mut Conn) -> QueryResult<()> {
        let row = |(id, consumer): &(EventId, String)| {
            self.answers.get(id)?.iter().find(|one| one.consumer == *consumer).cloned()
        };
        let rows: Vec<AnswerRow> = self.changed.iter().filter_map(row).collect();
        match rows.is_empty() {
            true => Ok(()),
            false => store::save_answers(conn, &rows),
        }
    }
}

/// One that still owes an answer to `id`.
fn owes<'a>(consumers: &'a Consumers, said: &[AnswerRow], id: EventId) -> Option<&'a str> {
    let has_answered = |name: &str| said.iter().any(|one| one.consumer == name && one.is_final());
    let mut asked = consumers.asked_about(id).map(|one| one.name.as_str());
    asked.find(|name| !has_answered(name))
}
