//! What the answers of several consumers come to, without a database: who still owes one, and which of them counts.

use common::event::EventKind;
use common::ids::EventId;

use super::model::{AnswerRow, Said};
use super::state::Trigger;
use crate::consumers::Consumers;
use crate::kafka::Ack;

/// What the consumers said of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    said: Vec<AnswerRow>,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What it is to the event.
    pub trigger: Trigger,
    /// Whether it is to be kept: it says what was not known.
    pub is_new: bool,
}

impl FromIterator<AnswerRow> for Answers {
    fn from_iter<I: IntoIterator<Item = AnswerRow>>(said: I) -> Self {
        Self { said: said.into_iter().collect() }
    }
}

impl Extend<AnswerRow> for Answers {
    fn extend<I: IntoIterator<Item = AnswerRow>>(&mut self, said: I) {
        self.said.extend(said);
    }
}

impl Answers {
    /// What `consumer` said last.
    pub fn of(&self, consumer: &str) -> Option<&AnswerRow> {
        self.said.iter().find(|one| one.consumer == consumer)
    }

    /// Takes `ack` down, which alone would be `trigger`: an answer for good counts once it is the last that is owed; what a
    /// consumer says after such an answer is nothing new.
    pub fn take(
        &mut self,
        consumers: &Consumers,
        ack: &Ack,
        kind: EventKind,
        trigger: Trigger,
    ) -> Meaning {
        let row = AnswerRow::of(ack.clone(), kind);
        let is_final = row.is_final();
        let is_new = self.keep(row);
        let had_answered = self.has_answered(&ack.consumer);
        let trigger = match (is_final, had_answered, self.owes(consumers, ack.event_id)) {
            (true, _, Some(_)) | (false, true, _) => Trigger::Answered,
            _ => trigger,
        };
        Meaning { trigger, is_new }
    }

    /// Whether there is an answer for good, and nobody owes one to `id` any more.
    pub fn are_enough(&self, consumers: &Consumers, id: EventId) -> bool {
        self.said.iter().any(AnswerRow::is_final) && self.owes(consumers, id).is_none()
    }

    /// The answer that stands for all: a REJECTED one before others, and that of the first consumer before others.
    pub fn decisive(&self, consumers: &Consumers) -> Option<&AnswerRow> {
        let said = self.said.iter().filter(|one| one.is_final());
        said.max_by_key(|one| (one.outcome == Said::Rejected, one.consumer == consumers.first()))
    }

    /// In place of what its consumer said before, unless that was for good.
    fn keep(&mut self, row: AnswerRow) -> bool {
        match self.said.iter_mut().find(|one| one.consumer == row.consumer) {
            Some(earlier) if earlier.is_final() => return false,
            Some(earlier) => {
                *earlier = AnswerRow { failures: earlier.failures + row.failures, ..row };
            }
            None => self.said.push(row),
        }
        true
    }

    fn has_answered(&self, consumer: &str) -> bool {
        self.of(consumer).is_some_and(AnswerRow::is_final)
    }

    /// One that still owes an answer to `id`.
    fn owes<'a>(&self, consumers: &'a Consumers, id: EventId) -> Option<&'a str> {
        let mut asked = consumers.asked_about(id).map(|one| one.name.as_str());
        asked.find(|name| !self.has_answered(name))
    }
}
