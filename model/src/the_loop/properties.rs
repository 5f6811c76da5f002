//! What is to hold of the loop, in words of its own: none of it calls the engine.

use common::event::{EventKind, Status};

use super::state::{Place, Row, State};
use super::{Action, Loop};
use crate::Property;

/// All of them, by the invariants of docs/ARCHITECTURE.md.
pub(super) fn all() -> Vec<Property<Loop>> {
    vec![
        Property::can_still("I1: all that is committed can still end", |_, _| true, all_ended),
        Property::can_still(
            "I1: what nobody failed can still arrive",
            nothing_failed,
            all_processed,
        ),
        Property::always("I2: one effect per id", one_effect),
        Property::each_step("I3: a copy never goes back", no_copy_goes_back),
        Property::each_step("I4: only the transitions of the table", only_legal_transitions),
        Property::each_step("I4: attempt and limit only grow", attempts_grow),
        Property::always("I4: no attempt above the limit", attempts_are_limited),
        Property::always("I5: one alert for what waits for a person", one_alert),
        Property::always("I11: PROCESSED is with all that are asked", processed_is_there),
        Property::each_step("fencing: a late note changes nothing", late_notes_change_nothing),
        Property::always("no attempt is sent before the one before was counted", one_number),
        Property::sometimes("all is PROCESSED", all_processed),
    ]
}

fn is_committed(model: &Loop, state: &State) -> bool {
    state.rows.len() == model.bounds().versions.len()
}

fn all_ended(model: &Loop, state: &State) -> bool {
    let has_ended = |row: &Row| match row.status {
        Status::Processed => true,
        Status::Exhausted => row.alerts == 1 || row.is_resolved,
        Status::Pending | Status::Sent => false,
    };
    is_committed(model, state) && state.rows.iter().all(has_ended)
}

fn all_processed(model: &Loop, state: &State) -> bool {
    is_committed(model, state) && state.rows.iter().all(|row| row.status == Status::Processed)
}

fn nothing_failed(model: &Loop, state: &State) -> bool {
    state.left.failures == model.bounds().faults.failures
        && state.rows.iter().all(|row| row.status != Status::Exhausted)
}

fn one_effect(_: &Loop, state: &State) -> bool {
    state.consumers.iter().all(|consumer| consumer.effects.iter().all(|effects| *effects <= 1))
}

fn no_copy_goes_back(_: &Loop, before: &State, _: &Action, after: &State) -> bool {
    let copies = before.consumers.iter().zip(&after.consumers);
    copies.into_iter().all(|(before, after)| before.copy <= after.copy)
}

/// The table of docs/ARCHITECTURE.md once more, with what may cause each line.
fn only_legal_transitions(_: &Loop, before: &State, action: &Action, after: &State) -> bool {
    use Status::{Exhausted, Pending, Processed, Sent};
    let is_legal = |(place, after): (Place, &Row)| {
        let Some(before) = before.rows.get(place) else {
            return *action == Action::Commit && after.status == Pending && after.attempt == 0;
        };
        let more = after.attempt - before.attempt;
        let is_failure =
            matches!(action, Action::Settle(_) | Action::Refuse(_) | Action::Overdue(_));
        match (before.status, after.status) {
            (Processed, Processed) => before == after,
            (Processed, _) => false,
            (_, Processed) => matches!(action, Action::Settle(_) | Action::LetOff),
            (Pending, Sent) => more == 1 && matches!(action, Action::Note(_)),
            (Pending, Pending) => more == 0 || more == 1 && is_failure,
            (Pending, Exhausted) => more == 1 && is_failure,
            (Sent, Sent) => {
                let is_probed = matches!(action, Action::NoteProbe(_));
                more == 0 || is_probed && (more, after.limit - before.limit) == (1, 1)
            }
            (Sent, Pending | Exhausted) => more == 0 && is_failure,
            (Exhausted, Exhausted) => more == 0,
            (Exhausted, Pending) => more == 0 && matches!(action, Action::Retry(_)),
            (Exhausted, Sent) => false,
        }
    };
    after.rows.iter().enumerate().all(is_legal)
}

fn attempts_grow(_: &Loop, before: &State, _: &Action, after: &State) -> bool {
    let rows = before.rows.iter().zip(&after.rows);
    rows.into_iter()
        .all(|(before, after)| before.attempt <= after.attempt && before.limit <= after.limit)
}

fn attempts_are_limited(_: &Loop, state: &State) -> bool {
    state.rows.iter().all(|row| row.attempt <= row.limit)
}

fn one_alert(_: &Loop, state: &State) -> bool {
    let waits = |row: &Row| row.status == Status::Exhausted && !row.is_resolved;
    state.rows.iter().all(|row| row.alerts == u8::from(waits(row)))
}

/// A copy that a consumer has is that of the event or of a newer version; a command is known to its inbox.
fn processed_is_there(model: &Loop, state: &State) -> bool {
    let asked = || {
        let consumers = state.consumers.iter().enumerate();
        consumers.filter(|(place, _)| state.retired != Some(*place)).map(|(_, consumer)| consumer)
    };
    let is_there = |(event, row): (Place, &Row)| {
        row.status != Status::Processed
            || asked().all(|consumer| match model.bounds().kind {
                EventKind::Snapshot => consumer.copy >= Some(model.version(event)),
                EventKind::Command => consumer.inbox.contains_key(&event),
            })
    };
    state.rows.iter().enumerate().all(is_there)
}

fn late_notes_change_nothing(_: &Loop, before: &State, action: &Action, after: &State) -> bool {
    let (Action::Note(relay) | Action::Refuse(relay)) = action else { return true };
    let is_late = before.relays.get(*relay).is_some_and(|relay| !before.is_holder(relay));
    !is_late || before.rows == after.rows
}

/// A message with the number n+1 is only there once n is over, or is being probed: no event waits for two answers.
fn one_number(_: &Loop, state: &State) -> bool {
    state.topic.iter().all(|message| {
        state
            .rows
            .get(message.event)
            .is_none_or(|row| row.status == Status::Processed || message.attempt <= row.attempt + 1)
    })
}
