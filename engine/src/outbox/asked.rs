//! The answers to events that more than one consumer is asked about, within one step.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::event::EventKind;
use common::ids::EventId;
use diesel::QueryResult;

use super::answers::{Answers, Meaning};
use super::model::AnswerRow;
use super::state::Trigger;
use super::store;
use crate::consumers::Consumers;
use crate::kafka::Ack;

/// Who owes what: the consumers, and what they said of the events in hand. With one consumer it holds nothing and costs
/// nothing: its answer is the event's.
pub(super) struct Asked<'a> {
    consumers: Option<&'a Consumers>,
    answers: BTreeMap<EventId, Answers>,
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
        let mut answers: BTreeMap<EventId, Answers> = BTreeMap::new();
        if consumers.is_some() {
            for row in store::answers(conn, ids)? {
                answers.entry(row.event_id).or_default().extend([row]);
            }
        }
        Ok(Self { consumers, answers, changed: BTreeSet::new() })
    }

    /// Takes an answer down, and returns what it means for its event.
    pub(super) fn take(&mut self, ack: &Ack, kind: EventKind, trigger: Trigger) -> Trigger {
        let Some(consumers) = self.consumers else { return trigger };
        let answers = self.answers.entry(ack.event_id).or_default();
        let Meaning { trigger, is_new } = answers.take(consumers, ack, kind, trigger);
        if is_new {
            self.changed.insert((ack.event_id, ack.consumer.clone()));
        }
        trigger
    }

    /// Whether nobody owes an answer to `id` any more.
    pub(super) fn is_settled(&self, id: EventId) -> bool {
        let known = self.consumers.zip(self.answers.get(&id));
        known.is_some_and(|(consumers, answers)| answers.are_enough(consumers, id))
    }

    /// The answer that stands for all.
    pub(super) fn decisive(&self, id: EventId) -> Option<AnswerRow> {
        self.answers.get(&id)?.decisive(self.consumers?).cloned()
    }

    /// Whether more than one consumer is asked, so that what is told has to say which.
    pub(super) fn are_several(&self) -> bool {
        self.consumers.is_some()
    }

    /// Writes down what is new, and nothing besides: what others said of the same events is there.
    pub(super) fn save(&self, conn: &mut Conn) -> QueryResult<()> {
        let row = |(id, consumer): &(EventId, String)| self.answers.get(id)?.of(consumer).cloned();
        let rows: Vec<AnswerRow> = self.changed.iter().filter_map(row).collect();
        match rows.is_empty() {
            true => Ok(()),
            false => store::save_answers(conn, &rows),
        }
    }
}
