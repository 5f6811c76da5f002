//! The loop broken in known ways: each has to be found, by the property that it breaks.

#![allow(clippy::expect_used, reason = "tests")]

use simulation::{Flaw, first_failure};

/// A flaw that is not found in as many is not found.
const SEEDS: u64 = 300;

/// What is left at the most of a script that finds a flaw: a person has to see why.
const STEPS: usize = 20;

/// By the first of the invariants that it breaks, where it can break several.
fn is_found(flaw: Flaw, invariants: &[&str]) {
    let found = first_failure(0..SEEDS, Some(flaw)).expect("databases can be made");
    let failure = found.expect("the flaw must be found");
    let (broken, _) = failure.violation.property.split_once(':').expect("it has a name");
    assert!(invariants.contains(&broken), "{failure}");
    assert!(failure.trace.len() <= STEPS, "{failure}");
}

#[test]
fn without_a_fence_a_relay_notes_what_is_not_its_own() {
    is_found(Flaw::NoFence, &["fencing"]);
}

#[test]
fn sent_before_the_broker_has_it_is_not_true() {
    is_found(Flaw::SentBeforeDelivery, &["SENT is true"]);
}

#[test]
fn offsets_that_are_committed_before_the_answers_are_found() {
    is_found(Flaw::OffsetsFirst, &["I1"]);
}

#[test]
fn without_an_inbox_an_order_is_carried_out_twice() {
    is_found(Flaw::NoInbox, &["I2"]);
}

#[test]
fn without_a_guard_a_copy_goes_back() {
    // Where it went back before anybody looked, what is PROCESSED is not there.
    is_found(Flaw::NoGuard, &["I3", "I11"]);
}

#[test]
fn giving_up_without_an_alert_is_found() {
    is_found(Flaw::NoAlert, &["I5"]);
}

#[test]
fn one_answer_of_two_is_not_enough() {
    is_found(Flaw::OneAnswerIsEnough, &["I11"]);
}
