//! Relays: leases, sends, and what is noted of them.

use std::collections::BTreeMap;

use common::event::Status;
use engine::outbox::{LeaseSet, Trigger};

use super::state::{Hand, Place, Relay, State};
use super::{Flaw, Loop, PARTITION, SHARD};

impl Loop {
    /// Takes the lease: from a holder that lives, that is one of the faults.
    pub(super) fn take(&self, state: &mut State, relay: Place) -> Option<()> {
        let is_held = state.relays.iter().any(|relay| state.is_holder(relay));
        state.left.takeovers = state.left.takeovers.checked_sub(u8::from(is_held))?;
        state.token += 1;
        state.relays.get_mut(relay)?.token = Some(state.token);
        Some(())
    }

    pub(super) fn read(&self, state: &mut State, relay: Place, event: Place) -> Option<()> {
        let mut newest = state.rows.get(event)?.attempt;
        if self.has(Flaw::CountsUnnoted) {
            let sent = state.topic.iter().filter(|message| message.event == event);
            newest = sent.map(|message| message.attempt).max().unwrap_or(0);
        }
        state.relays.get_mut(relay)?.hand = Some(Hand::Read(event, newest + 1));
        Some(())
    }

    pub(super) fn send(&self, state: &mut State, relay: Place) -> Option<()> {
        let Some(Hand::Read(event, attempt)) = state.relays.get(relay)?.hand else { return None };
        let offset = state.write(event, attempt);
        state.relays.get_mut(relay)?.hand = Some(Hand::Confirmed(event, attempt, offset));
        Some(())
    }

    /// The broker does not take this very message.
    pub(super) fn refuse(&self, state: &mut State, relay: Place) -> Option<()> {
        let Some(Hand::Read(event, _)) = state.relays.get(relay)?.hand else { return None };
        state.left.failures = state.left.failures.checked_sub(1)?;
        match self.lay_down(state, relay)? {
            true => self.advance(state, event, Trigger::Unproducible),
            false => Some(()),
        }
    }

    /// Notes what the broker confirmed, if the lease is still this relay's.
    pub(super) fn note(&self, state: &mut State, relay: Place) -> Option<()> {
        let Some(Hand::Confirmed(event, attempt, offset)) = state.relays.get(relay)?.hand else {
            return None;
        };
        if !self.lay_down(state, relay)? && !self.has(Flaw::NoFence) {
            return Some(());
        }
        if self.has(Flaw::NoCompareAndSet) {
            let row = state.rows.get_mut(event)?;
            (row.status, row.attempt, row.offset) = (Status::Sent, attempt, Some(offset));
            return Some(());
        }
        let offset = Some(offset);
        self.advance(state, event, Trigger::Confirmed { attempt, partition: PARTITION, offset })
    }

    /// Sends what is SENT once more, to see whether anybody answers.
    pub(super) fn probe(&self, state: &mut State, relay: Place, event: Place) -> Option<()> {
        let is_hasty = u8::from(!self.is_silent_about(state, event));
        state.left.hasty_probes = state.left.hasty_probes.checked_sub(is_hasty)?;
        let attempt = state.rows.get(event)?.attempt + 1;
        let offset = state.write(event, attempt);
        state.relays.get_mut(relay)?.hand = Some(Hand::Probed(event, attempt, offset));
        Some(())
    }

    /// No fence: of two probes, one finds that it is not the next attempt.
    pub(super) fn note_probe(&self, state: &mut State, relay: Place) -> Option<()> {
        let Some(Hand::Probed(event, attempt, offset)) = state.relays.get(relay)?.hand else {
            return None;
        };
        self.lay_down(state, relay)?;
        let offset = Some(offset);
        self.advance(state, event, Trigger::Probed { attempt, partition: PARTITION, offset })
    }

    /// Whether a probe is due: nothing that would still change the event is on its way from one that owes an answer.
    pub(super) fn is_silent_about(&self, state: &State, event: Place) -> bool {
        let is_probed =
            |relay: &Relay| matches!(relay.hand, Some(Hand::Probed(one, ..)) if one == event);
        let mut consumers = 0..state.consumers.len();
        self.bounds.is_probed
            && !state.relays.iter().any(is_probed)
            && consumers.any(|consumer| {
                self.is_owed(state, event, consumer) && !self.is_coming(state, event, consumer)
            })
    }

    /// A relay has nothing in hand any more. Returns whether it holds the lease; if not, it knows that now.
    fn lay_down(&self, state: &mut State, relay: Place) -> Option<bool> {
        let newest = state.token;
        let relay = state.relays.get_mut(relay)?;
        relay.hand = None;
        let tokens: BTreeMap<i16, i64> =
            relay.token.map(|token| (SHARD, token)).into_iter().collect();
        let held = LeaseSet { tokens, ..LeaseSet::nothing(String::new()) };
        let is_holder = held.proves(SHARD, newest);
        relay.token = relay.token.filter(|_| is_holder);
        Some(is_holder)
    }
}
