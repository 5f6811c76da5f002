//! The protocol broken in known ways: the model has to find each of them.

#![allow(clippy::expect_used, reason = "tests")]

use common::event::EventKind;
use model::leases::{self, Leases};
use model::the_loop::{Action, Bounds, Faults, Flaw, Loop};
use model::{Model, explore};

const MOST: usize = 1_000_000;

/// Which property fails first, and after which steps.
fn broken<M: Model>(model: &M) -> (&'static str, Vec<M::Action>) {
    let found = explore(model, MOST, |_| {});
    let way = found.counterexample.expect("the flaw must be found");
    (way.property, way.actions)
}

/// What is found of `flaw` in `bounds`, in which the protocol itself holds.
fn found(flaw: Flaw, bounds: Bounds) -> (&'static str, Vec<Action>) {
    let sound = explore(&Loop::new(bounds.clone()), MOST, |_| {});
    assert!(sound.holds(), "{:?}", sound.counterexample.map(|way| way.property));
    broken(&Loop::new(bounds).with(flaw))
}

fn bounds(faults: Faults) -> Bounds {
    Bounds { faults, ..Bounds::smallest("a flaw") }
}

#[test]
fn without_a_fence_a_late_note_counts() {
    let bounds = Bounds { relays: 2, ..bounds(Faults { takeovers: 1, ..Faults::default() }) };
    let (property, way) = found(Flaw::NoFence, bounds);
    assert_eq!(property, "fencing: a late note changes nothing");
    assert!(matches!(way.last(), Some(Action::Note(_))), "{way:?}");
}

#[test]
fn without_compare_and_set_a_note_undoes_an_answer() {
    let (property, way) = found(Flaw::NoCompareAndSet, bounds(Faults::default()));
    assert_eq!(property, "I4: only the transitions of the table");
    assert!(matches!(way.last(), Some(Action::Note(_))), "{way:?}");
}

/// Nothing is probed here, so that nothing makes good for it.
#[test]
fn offsets_before_answers_leave_an_event_waiting() {
    let faults = Faults { consumer_crashes: 1, ..Faults::default() };
    let bounds = Bounds { is_probed: false, ..bounds(faults) };
    let (property, way) = found(Flaw::OffsetsFirst, bounds);
    assert_eq!(property, "I1: all that is committed can still end");
    assert!(way.iter().any(|action| matches!(action, Action::CrashConsumer(_))), "{way:?}");
}

#[test]
fn the_first_of_two_answers_is_not_enough() {
    let bounds = Bounds { consumers: 2, ..bounds(Faults::default()) };
    let (property, _) = found(Flaw::FirstAnswerSettles, bounds);
    assert_eq!(property, "I11: PROCESSED is with all that are asked");
}

#[test]
fn without_an_inbox_a_command_is_done_twice() {
    let bounds =
        Bounds { kind: EventKind::Command, ..bounds(Faults { rewinds: 1, ..Faults::default() }) };
    let (property, way) = found(Flaw::NoInbox, bounds);
    assert_eq!(property, "I2: one effect per id");
    assert!(way.iter().any(|action| matches!(action, Action::Rewind(_))), "{way:?}");
}

#[test]
fn without_the_guard_a_copy_goes_back() {
    let bounds = Bounds { versions: &[(1, 1), (1, 2)], ..bounds(Faults::default()) };
    let (property, _) = found(Flaw::NoVersionGuard, bounds);
    assert_eq!(property, "I3: a copy never goes back");
}

#[test]
fn giving_up_without_an_alert_is_found() {
    let bounds = bounds(Faults { failures: 1, ..Faults::default() });
    let (property, _) = found(Flaw::NoAlert, bounds);
    assert_eq!(property, "I5: one alert for what waits for a person");
}

/// As it was once: the event waits for nobody, so it is neither silent nor overdue.
#[test]
fn an_answer_before_the_note_of_its_send_is_let_off_too() {
    let faults = Faults { retirements: 1, lost: 1, ..Faults::default() };
    let bounds = Bounds { consumers: 2, ..bounds(faults) };
    let (property, way) = found(Flaw::UnnotedNotLetOff, bounds);
    assert_eq!(property, "I1: all that is committed can still end");
    assert!(way.contains(&Action::LetOff), "{way:?}");
}

#[test]
fn without_a_limit_an_event_is_sent_too_often() {
    let bounds = bounds(Faults { failures: 2, ..Faults::default() });
    let (property, way) = found(Flaw::NoLimit, bounds);
    assert_eq!(property, "I4: no attempt above the limit");
    assert!(matches!(way.last(), Some(Action::Note(_))), "{way:?}");
}

/// It dies before it has noted the first one.
#[test]
fn a_relay_that_counts_what_is_not_noted_sends_two_numbers() {
    let bounds = bounds(Faults { crashes: 1, ..Faults::default() });
    let (property, way) = found(Flaw::CountsUnnoted, bounds);
    assert_eq!(property, "no attempt is sent before the one before was counted");
    assert!(way.contains(&Action::CrashRelay(0)), "{way:?}");
}

#[test]
fn a_retry_that_takes_attempts_away_is_found() {
    let bounds = bounds(Faults { failures: 1, operations: 1, ..Faults::default() });
    let (property, way) = found(Flaw::RetryInAll, bounds);
    assert_eq!(property, "I4: attempt and limit only grow");
    assert_eq!(way.last(), Some(&Action::Retry(0)));
}

/// It ends with its alert, so it can end; but what was lost on the way never arrives.
#[test]
fn giving_up_what_nobody_answers_is_found() {
    let bounds = bounds(Faults { lost: 1, ..Faults::default() });
    let (property, _) = found(Flaw::SilenceGivesUp, bounds);
    assert_eq!(property, "I1: what nobody failed can still arrive");
}

#[test]
fn a_lease_that_is_used_to_its_end_has_two_holders() {
    let (property, way) = broken(&Leases { flaw: Some(leases::Flaw::UsedToItsEnd) });
    assert_eq!(property, "whoever may send holds the lease");
    assert!(way.iter().any(|action| matches!(action, leases::Action::TickWithout(_))), "{way:?}");
}

#[test]
fn a_lease_that_is_counted_from_its_answer_has_two_holders() {
    let (property, _) = broken(&Leases { flaw: Some(leases::Flaw::CountedFromTheAnswer) });
    assert_eq!(property, "whoever may send holds the lease");
}
