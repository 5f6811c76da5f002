//! The loop broken in known ways: each has to be found, by the property that it breaks.

#![allow(clippy::expect_used, reason = "tests")]

use simulation::{Flaw, first_failure};

/// A flaw that is not found in as many is not found.
const SEEDS: u64 = 6_000;

/// What is left at the most of a script that finds a flaw: a person has to see why.
const STEPS: usize = 20;

/// By a property that begins so; by the first that it breaks, where it can break several.
fn is_found(flaw: Flaw, properties: &[&str]) {
    let found = first_failure(0..SEEDS, Some(flaw)).expect("databases can be made");
    let failure = found.expect("the flaw must be found");
    let broken = failure.violation.property;
    assert!(properties.iter().any(|property| broken.starts_with(*property)), "{failure}");
    let steps = failure.trace.iter().filter(|line| !line.starts_with("round"));
    assert!(steps.count() <= STEPS, "{failure}");
}

macro_rules! found {
    ($($name:ident: $flaw:ident => $properties:expr;)*) => {
        $(#[test]
        #[cfg_attr(not(feature = "paused"), ignore = "time has to stand still: --features paused")]
        fn $name() {
            is_found(Flaw::$flaw, &$properties);
        })*
    };
}

found! {
    without_a_fence_a_relay_notes_what_is_not_its_own: NoFence => ["fencing:"];
    sent_before_the_broker_has_it_is_not_true: SentBeforeDelivery => ["SENT is true:"];
    without_a_cap_too_much_is_in_flight: NoCap => ["I6: what is in flight"];
    offsets_that_are_committed_before_the_answers_are_found: OffsetsFirst => ["I1: no offset"];
    without_an_inbox_an_order_is_carried_out_twice: NoInbox => ["I2:"];
    // Where it went back before anybody looked, what is PROCESSED is not there.
    without_a_guard_a_copy_goes_back: NoGuard => ["I3:", "I11:"];
    // Where the first to fail can't be sent, it stays at none: it fails for the first time again, or never rests.
    attempts_that_are_not_counted_are_found: AttemptsForgotten => ["I4: attempts", "I6: once nothing", "jobs:"];
    giving_up_without_an_alert_is_found: NoAlert => ["I5:"];
    what_nobody_passed_by_loses_no_attempt: PassedByAtOnce => ["I8:"];
    one_answer_of_two_is_not_enough: OneAnswerIsEnough => ["I11:"];
}
