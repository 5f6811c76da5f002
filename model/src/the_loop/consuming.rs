//! Consumers: a batch in one transaction, its answers, and only then its offsets.

use std::collections::{BTreeMap, BTreeSet};

use common::event::{EventKind, Status};
use engine::inbox::{CopyVersion, Detail, HandlerOutcome, Snapshot, newest_of, outcomes_of};

use super::state::{Answer, Batch, Consumer, Message, Place, Reply, State};
use super::{Flaw, Loop};

/// The one key.
const KEY: &str = "TEA";

/// What a message brings.
struct Arrival {
    version: CopyVersion,
}

impl Snapshot for Arrival {
    fn key(&self) -> &str {
        KEY
    }

    fn version(&self) -> CopyVersion {
        self.version
    }
}

impl Loop {
    /// A transaction: up to `messages` messages are applied, or the first of them gets another `reply`.
    pub(super) fn apply(
        &self,
        state: &mut State,
        place: Place,
        messages: usize,
        reply: Reply,
    ) -> Option<()> {
        state.left.failures = state.left.failures.checked_sub(u8::from(reply != Reply::Success))?;
        let consumer = state.consumers.get_mut(place)?;
        let begin = consumer.committed;
        let taken: Vec<Message> = state.topic.iter().skip(begin).take(messages).copied().collect();
        let mut events: Vec<Place> = Vec::new();
        for message in &taken {
            if !events.contains(&message.event) && self.is_fresh(consumer, message.event) {
                events.push(message.event);
            }
        }
        match reply {
            Reply::Success => self.handle(consumer, &events),
            Reply::Rejected => consumer.inbox.extend(events.first().map(|event| (*event, reply))),
            // What failed leaves nothing.
            Reply::Failed | Reply::Refused => {}
        }
        let answer = |(at, message): (usize, &Message)| Answer {
            event: message.event,
            attempt: message.attempt,
            consumer: place,
            reply: consumer.inbox.get(&message.event).copied().unwrap_or(reply),
            offset: i64::try_from(begin + at).unwrap_or(i64::MAX),
        };
        let answers = taken.iter().enumerate().map(answer).collect();
        consumer.batch = Some(Batch::Applied(taken.len(), answers));
        if self.has(Flaw::OffsetsFirst) {
            consumer.committed += taken.len();
        }
        Some(())
    }

    /// Whether an inbox does not know an event.
    pub(super) fn is_fresh(&self, consumer: &Consumer, event: Place) -> bool {
        self.has(Flaw::NoInbox) || !consumer.inbox.contains_key(&event)
    }

    /// `events` have their effect.
    fn handle(&self, consumer: &mut Consumer, events: &[Place]) {
        let applied = match self.bounds.kind {
            EventKind::Command => events.to_vec(),
            EventKind::Snapshot => self.fold(consumer, events),
        };
        for event in applied {
            consumer.effects.get_mut(event).into_iter().for_each(|effects| *effects += 1);
        }
        consumer.inbox.extend(events.iter().map(|event| (*event, Reply::Success)));
    }

    /// Writes the newest of `events` if it is newer than the copy; returns what had its effect.
    fn fold(&self, consumer: &mut Consumer, events: &[Place]) -> Vec<Place> {
        let arrival = |event: &Place| {
            let (epoch, version) = self.version(*event);
            Ok(Arrival { version: CopyVersion { epoch, version } })
        };
        let arrivals: Vec<Result<Arrival, String>> = events.iter().map(arrival).collect();
        let newest = newest_of(&arrivals);
        let copy = consumer.copy.map(|(epoch, version)| CopyVersion { epoch, version });
        // The condition of the statement that writes.
        let is_newer =
            |state: &Arrival| self.has(Flaw::NoVersionGuard) || copy < Some(state.version);
        let mut written = BTreeSet::new();
        let mut versions: BTreeMap<String, CopyVersion> =
            copy.map(|copy| (KEY.to_owned(), copy)).into_iter().collect();
        for (key, (_, state)) in newest.iter().filter(|(_, (_, state))| is_newer(state)) {
            written.insert((*key).to_owned());
            versions.insert((*key).to_owned(), state.version);
            consumer.copy = Some((state.version.epoch, state.version.version));
        }
        let outcomes = outcomes_of(&arrivals, &newest, &written, &versions);
        let had_effect = |outcome: &HandlerOutcome| {
            matches!(outcome, HandlerOutcome::Success { detail: Detail::Applied, .. })
        };
        let outcomes = events.iter().zip(&outcomes);
        outcomes.filter(|(_, outcome)| had_effect(outcome)).map(|(event, _)| *event).collect()
    }

    /// The broker has a batch's answers.
    pub(super) fn answer(&self, state: &mut State, place: Place) -> Option<()> {
        let consumer = state.consumers.get_mut(place)?;
        let Some(Batch::Applied(messages, answers)) = consumer.batch.take() else { return None };
        let rows = &state.rows;
        let is_open = |answer: &Answer| {
            rows.get(answer.event).is_some_and(|row| row.status != Status::Processed)
        };
        state.answers.extend(answers.into_iter().filter(is_open));
        consumer.batch = (!self.has(Flaw::OffsetsFirst)).then_some(Batch::Answered(messages));
        Some(())
    }

    /// A batch's offsets are committed.
    pub(super) fn move_on(&self, state: &mut State, place: Place) -> Option<()> {
        let consumer = state.consumers.get_mut(place)?;
        let Some(Batch::Answered(messages)) = consumer.batch.take() else { return None };
        consumer.committed += messages;
        Some(())
    }

    /// Whether anything is on its way from a consumer that would still change an event.
    pub(super) fn is_coming(&self, state: &State, event: Place, place: Place) -> bool {
        let Some(consumer) = state.consumers.get(place) else { return false };
        let Some(row) = state.rows.get(event) else { return false };
        let counts = |answer: &Answer| {
            let is_final = matches!(answer.reply, Reply::Success | Reply::Rejected);
            answer.event == event
                && answer.consumer == place
                && (is_final || answer.attempt == row.attempt)
        };
        let is_unread = state.topic.iter().skip(consumer.committed).any(|one| one.event == event);
        let in_hand = match &consumer.batch {
            Some(Batch::Applied(_, answers)) => answers.iter().any(counts),
            _ => false,
        };
        is_unread || in_hand || state.answers.iter().any(counts)
    }
}
