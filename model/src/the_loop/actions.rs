//! What may happen next.

use common::event::{EventKind, Status};
use engine::outbox::{AckOutcome, Trigger};

use super::state::{Answer, Batch, Consumer, Hand, Place, Relay, Reply, Row, State};
use super::{Flaw, Loop};

/// A step. Relays, events and consumers are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The next change is committed.
    Commit,
    /// A relay takes the lease.
    Take(Place),
    /// A relay dies.
    CrashRelay(Place),
    /// A relay reads an event that is due.
    Read(Place, Place),
    /// The broker confirms what a relay has read.
    Send(Place),
    /// The broker refuses it, for its own fault.
    Refuse(Place),
    /// A relay notes what was confirmed.
    Note(Place),
    /// A relay sends a SENT event as a probe.
    Probe(Place, Place),
    /// It notes that.
    NoteProbe(Place),
    /// A consumer applies so many messages, or the first of them gets this reply.
    Apply(Place, usize, Reply),
    /// A consumer answers what it has applied.
    Answer(Place),
    /// A consumer commits its offsets.
    MoveOn(Place),
    /// A consumer dies.
    CrashConsumer(Place),
    /// A consumer passes a message over.
    Skip(Place),
    /// A consumer begins anew.
    Rewind(Place),
    /// An answer is settled.
    Settle(Answer),
    /// An answer is lost; what came before it is lost or was settled.
    Lose(Answer),
    /// An event turns out to be passed by.
    Overdue(Place),
    /// An operator retries an event.
    Retry(Place),
    /// An operator resolves it.
    Resolve(Place),
    /// A consumer is asked no more.
    Retire(Place),
    /// What it owed is settled.
    LetOff,
}

impl Loop {
    /// All that may happen in `state`.
    pub(super) fn possible(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        if state.rows.len() < self.bounds.versions.len() {
            actions.push(Action::Commit);
        }
        for (place, relay) in state.relays.iter().enumerate() {
            self.add_of_relay(state, (place, relay), &mut actions);
        }
        for (place, consumer) in state.consumers.iter().enumerate() {
            self.add_of_consumer(state, (place, consumer), &mut actions);
        }
        for answer in &state.answers {
            if state.left.lost > 0 {
                actions.push(Action::Lose(*answer));
            }
            if state.retired != Some(answer.consumer) {
                actions.push(Action::Settle(*answer));
            }
        }
        for (place, row) in state.rows.iter().enumerate() {
            self.add_of_row(state, (place, row), &mut actions);
        }
        let is_last = state.retired.is_some() || state.consumers.len() < 2;
        if state.left.retirements > 0 && !is_last {
            actions.extend((0..state.consumers.len()).map(Action::Retire));
        }
        if state.is_letting_off {
            actions.push(Action::LetOff);
        }
        actions
    }

    fn add_of_relay(
        &self,
        state: &State,
        (place, relay): (Place, &Relay),
        actions: &mut Vec<Action>,
    ) {
        let is_held = state.relays.iter().any(|relay| state.is_holder(relay));
        if !state.is_holder(relay) && (!is_held || state.left.takeovers > 0) {
            actions.push(Action::Take(place));
        }
        if state.left.crashes > 0 && (relay.token.is_some() || relay.hand.is_some()) {
            actions.push(Action::CrashRelay(place));
        }
        match relay.hand {
            Some(Hand::Read(..)) => {
                actions.push(Action::Send(place));
                if state.left.failures > 0 {
                    actions.push(Action::Refuse(place));
                }
            }
            Some(Hand::Confirmed(..)) => actions.push(Action::Note(place)),
            Some(Hand::Probed(..)) => actions.push(Action::NoteProbe(place)),
            // Whoever believes in a lease reads: the lease may have ended since it looked.
            None if relay.token.is_some() => {
                for (event, row) in state.rows.iter().enumerate() {
                    match row.status {
                        Status::Pending => actions.push(Action::Read(place, event)),
                        Status::Sent
                            if state.left.hasty_probes > 0
                                || self.is_silent_about(state, event)
                                    && !self.has(Flaw::SilenceGivesUp) =>
                        {
                            actions.push(Action::Probe(place, event));
                        }
                        _ => {}
                    }
                }
            }
            None => {}
        }
    }

    fn add_of_consumer(
        &self,
        state: &State,
        (place, consumer): (Place, &Consumer),
        actions: &mut Vec<Action>,
    ) {
        match consumer.batch {
            Some(Batch::Applied(..)) => actions.push(Action::Answer(place)),
            Some(Batch::Answered(_)) => actions.push(Action::MoveOn(place)),
            None => self.add_applying(state, (place, consumer), actions),
        }
        if consumer.batch.is_some() {
            if state.left.consumer_crashes > 0 {
                actions.push(Action::CrashConsumer(place));
            }
            return;
        }
        if state.left.lost > 0 && consumer.committed < state.topic.len() {
            actions.push(Action::Skip(place));
        }
        if state.left.rewinds > 0 && consumer.committed > 0 {
            actions.push(Action::Rewind(place));
        }
    }

    fn add_applying(
        &self,
        state: &State,
        (place, consumer): (Place, &Consumer),
        actions: &mut Vec<Action>,
    ) {
        let Some(next) = state.topic.get(consumer.committed) else { return };
        let there = state.topic.len() - consumer.committed;
        for messages in 1..=there.min(self.bounds.batch) {
            actions.push(Action::Apply(place, messages, Reply::Success));
        }
        if state.left.failures > 0 && self.is_fresh(consumer, next.event) {
            let is_command = self.bounds.kind == EventKind::Command;
            let rejected = is_command.then_some(Reply::Rejected);
            let replies = rejected.into_iter().chain([Reply::Failed, Reply::Refused]);
            actions.extend(replies.map(|reply| Action::Apply(place, 1, reply)));
        }
    }

    fn add_of_row(&self, state: &State, (place, row): (Place, &Row), actions: &mut Vec<Action>) {
        let is_passed_by = |(consumer, known): (Place, &Consumer)| {
            row.offset.is_some_and(|offset| known.proven > Some(offset))
                && self.is_owed(state, place, consumer)
        };
        let is_given_up = self.has(Flaw::SilenceGivesUp) && self.is_silent_about(state, place);
        match row.status {
            Status::Sent if is_given_up || state.consumers.iter().enumerate().any(is_passed_by) => {
                actions.push(Action::Overdue(place));
            }
            Status::Exhausted if state.left.operations > 0 => {
                actions.push(Action::Retry(place));
                if !row.is_resolved {
                    actions.push(Action::Resolve(place));
                }
            }
            _ => {}
        }
    }

    /// Does it; `None` if what it is about is not there.
    pub(super) fn perform(&self, state: &mut State, action: &Action) -> Option<()> {
        match *action {
            Action::Commit => state.rows.push(Row {
                status: Status::Pending,
                attempt: 0,
                limit: self.bounds.attempts,
                offset: None,
                was_sent: false,
                is_resolved: false,
                alerts: 0,
                answers: vec![None; self.bounds.consumers],
            }),
            Action::Take(relay) => self.take(state, relay)?,
            Action::CrashRelay(relay) => {
                state.left.crashes -= 1;
                *state.relays.get_mut(relay)? = Relay { token: None, hand: None };
            }
            Action::Read(relay, event) => self.read(state, relay, event)?,
            Action::Send(relay) => self.send(state, relay)?,
            Action::Refuse(relay) => self.refuse(state, relay)?,
            Action::Note(relay) => self.note(state, relay)?,
            Action::Probe(relay, event) => self.probe(state, relay, event)?,
            Action::NoteProbe(relay) => self.note_probe(state, relay)?,
            Action::Apply(consumer, messages, reply) => {
                self.apply(state, consumer, messages, reply)?;
            }
            Action::Answer(consumer) => self.answer(state, consumer)?,
            Action::MoveOn(consumer) => self.move_on(state, consumer)?,
            Action::CrashConsumer(consumer) => {
                state.left.consumer_crashes -= 1;
                state.consumers.get_mut(consumer)?.batch = None;
            }
            Action::Skip(consumer) => {
                state.left.lost -= 1;
                state.consumers.get_mut(consumer)?.committed += 1;
            }
            Action::Rewind(consumer) => {
                state.left.rewinds -= 1;
                state.consumers.get_mut(consumer)?.committed = 0;
            }
            Action::Settle(answer) => self.settle(state, &answer)?,
            Action::Lose(answer) => {
                state.left.lost -= 1;
                state.answers.remove(&answer);
            }
            Action::Overdue(event) => {
                let attempt = state.rows.get(event)?.attempt;
                let for_good = AckOutcome::Failed { retryable: false };
                let trigger = match self.has(Flaw::SilenceGivesUp) {
                    true => Trigger::Acked { attempt, outcome: for_good },
                    false => Trigger::Overdue,
                };
                self.advance(state, event, trigger)?;
            }
            Action::Retry(event) => {
                state.left.operations -= 1;
                self.advance(state, event, Trigger::Retried { more: 1 })?;
                if self.has(Flaw::RetryInAll) {
                    state.rows.get_mut(event)?.limit = 1;
                }
            }
            Action::Resolve(event) => {
                state.left.operations -= 1;
                self.advance(state, event, Trigger::Resolved)?;
            }
            Action::Retire(consumer) => {
                state.left.retirements -= 1;
                (state.retired, state.is_letting_off) = (Some(consumer), true);
                state.consumers.get_mut(consumer)?.proven = None;
            }
            Action::LetOff => self.let_off(state)?,
        }
        Some(())
    }
}
