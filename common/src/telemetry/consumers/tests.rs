#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::clock::ManualClock;

const DENIED: Trouble =
    Trouble { problem: "it may not read", advice: "allow it", heals: Heals::Anew };
const FENCED: Trouble = Trouble { problem: "it failed", advice: "name it", heals: Heals::Lasting };
const REFUSED: Trouble =
    Trouble { problem: "its password is wrong", advice: "mend it", heals: Heals::ByItself };

fn consumer() -> (ConsumerState, ManualClock) {
    let clock = ManualClock::at("2026-01-05T12:00:00Z".parse().unwrap());
    let env = Env::seeded(Arc::new(clock.clone()), 1);
    (ConsumerState::new("inbox", "inventory", "order-service", env), clock)
}

fn is_up(state: &ConsumerState) -> bool {
    state.report().status == ConsumerStatus::Up
}

#[test]
fn an_idle_consumer_is_up_once_it_reads_and_a_rebalance_is_no_fault() {
    let (state, clock) = consumer();
    state.looked(0, Standing::Receives);
    assert_eq!(state.report().status, ConsumerStatus::Unknown, "one look proves nothing");
    state.looked(0, Standing::Receives);
    assert!(is_up(&state));
    state.looked(0, Standing::Waits);
    clock.advance(JOINING - Duration::from_secs(1));
    state.looked(0, Standing::Waits);
    assert!(is_up(&state), "a rebalance");
    clock.advance(Duration::from_secs(1));
    state.heard(0, "coordinator load in progress");
    state.looked(0, Standing::Waits);
    let fault = state.report().fault().unwrap();
    assert!(fault.contains("not in its group") && fault.contains("load in progress"), "{fault}");
    let ConsumerStatus::Down { since, .. } = state.report().status else { return };
    assert_eq!(since, "2026-01-05T12:00:00Z".parse().unwrap(), "since it was apart");
    state.looked(0, Standing::Receives);
    state.looked(0, Standing::Receives);
    assert!(is_up(&state) && state.renew().is_none());
}

#[test]
fn what_passes_by_itself_is_over_when_the_group_has_it_again() {
    let (state, clock) = consumer();
    state.failed(0, REFUSED, "SASL authentication error");
    let fault = state.report().fault().unwrap();
    assert_eq!(fault, "its password is wrong (SASL authentication error); mend it");
    clock.advance(Duration::from_secs(600));
    assert_eq!(state.renew(), None, "the client tries again by itself");
    state.looked(0, Standing::Receives);
    state.failed(0, REFUSED, "once more");
    state.looked(0, Standing::Receives);
    assert!(!is_up(&state), "two looks in a row");
    state.looked(0, Standing::Receives);
    assert!(is_up(&state));
}

#[test]
fn a_fault_that_the_group_does_not_show_needs_a_message_or_a_new_client() {
    let (state, clock) = consumer();
    state.failed(0, DENIED, "Topic authorization failed");
    (0..5).for_each(|_| state.looked(0, Standing::Receives));
    assert!(!is_up(&state), "in the group, and still not allowed to read");
    assert_eq!(state.renew(), None, "not at once");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(1));
    assert_eq!(state.renew(), None);
    (0..5).for_each(|_| state.looked(0, Standing::Receives));
    assert!(!is_up(&state), "the word of the former client");
    state.looked(1, Standing::Receives);
    state.failed(1, DENIED, "Topic authorization failed");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), None, "twice as long");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(2));
    state.failed(1, DENIED, "late");
    state.looked(2, Standing::Receives);
    state.looked(2, Standing::Receives);
    assert!(is_up(&state));
    state.failed(2, DENIED, "again");
    state.received();
    assert!(is_up(&state), "a message proves all");
}

#[test]
fn a_message_proves_nothing_of_partitions_that_do_not_come() {
    for (standing, told) in
        [(Standing::Waits, "reads not all of its"), (Standing::Stuck, "does not begin")]
    {
        let (state, clock) = consumer();
        state.looked(0, standing);
        clock.advance(JOINING - Duration::from_secs(1));
        state.received();
        state.looked(0, standing);
        assert!(is_up(&state), "a rebalance: {standing:?}");
        clock.advance(Duration::from_secs(1));
        state.looked(0, standing);
        state.received();
        assert!(state.report().fault().unwrap().contains(told), "{standing:?}");
        state.failed(0, DENIED, "Topic authorization failed");
        assert!(state.report().fault().unwrap().contains(DENIED.problem));
        state.received();
        assert!(state.report().fault().unwrap().contains(told), "what was denied is over");
        state.looked(0, Standing::Receives);
        state.received();
        assert!(is_up(&state), "{standing:?}");
    }
}

#[test]
fn who_is_stuck_is_made_anew_and_who_waits_for_the_broker_is_not() {
    let (state, clock) = consumer();
    let stands = |client: u32, standing: Standing, lasts: Duration| {
        state.looked(client, standing);
        clock.advance(lasts);
        state.looked(client, standing);
        state.received();
    };
    let short = JOINING - Duration::from_secs(1);
    stands(0, Standing::Waits, JOINING * 10);
    assert_eq!(state.renew(), None, "a new one would wait for the same");
    stands(0, Standing::Stuck, short);
    assert_eq!(state.renew(), None, "the broker may be slow");
    stands(0, Standing::Waits, Duration::ZERO);
    stands(0, Standing::Stuck, short);
    assert_eq!(state.renew(), None, "once more from the beginning");
    clock.advance(Duration::from_secs(1));
    state.looked(0, Standing::Stuck);
    assert_eq!(state.renew(), Some(1));
    stands(1, Standing::Stuck, short);
    assert_eq!(state.renew(), None, "the new one has its time as well");
    clock.advance(RENEW_FIRST);
    state.looked(1, Standing::Stuck);
    assert_eq!(state.renew(), Some(2));
    stands(2, Standing::Receives, Duration::from_secs(5));
    assert!(is_up(&state));
}

#[test]
fn one_look_at_a_client_that_begins_is_no_verdict() {
    let (state, clock) = consumer();
    state.received();
    state.looked(0, Standing::Stuck);
    clock.advance(SILENT);
    assert!(!is_up(&state), "a long batch");
    assert_eq!(state.renew(), None);
    state.received();
    assert!(is_up(&state));
}

#[test]
fn who_begins_late_is_up_and_not_made_anew() {
    let (state, clock) = consumer();
    state.looked(0, Standing::Stuck);
    clock.advance(JOINING);
    state.looked(0, Standing::Stuck);
    assert!(!is_up(&state));
    state.looked(0, Standing::Receives);
    assert_eq!(state.renew(), None);
    state.looked(0, Standing::Receives);
    assert!(is_up(&state));
}

#[test]
fn one_that_is_asked_for_nothing_is_not_up() {
    let (state, clock) = consumer();
    state.received();
    clock.advance(SILENT - Duration::from_secs(1));
    assert!(is_up(&state), "a long batch");
    clock.advance(Duration::from_secs(1));
    let report = state.report();
    assert!(report.fault().unwrap().contains("at one batch"), "{report:?}");
    let ConsumerStatus::Down { since, .. } = report.status else { return };
    assert_eq!(since, "2026-01-05T12:00:00Z".parse().unwrap(), "since it was heard of last");
    state.looked(0, Standing::Receives);
    state.looked(0, Standing::Receives);
    assert!(is_up(&state));
    clock.advance(SILENT);
    assert!(!is_up(&state));
    state.received();
    assert!(is_up(&state));
}

#[test]
fn a_clock_that_is_set_back_hides_no_trouble() {
    let (state, clock) = consumer();
    state.received();
    clock.set_back(Duration::from_secs(3_600));
    assert!(is_up(&state));
    clock.advance(SILENT);
    assert!(!is_up(&state), "it has said nothing for as long");
    state.received();
    state.looked(0, Standing::Waits);
    clock.set_back(Duration::from_secs(3_600));
    state.looked(0, Standing::Waits);
    assert!(is_up(&state));
    clock.advance(JOINING);
    state.looked(0, Standing::Waits);
    assert!(state.report().fault().unwrap().contains("not in its group"));
}

#[test]
fn who_takes_turns_with_another_is_not_up_meanwhile() {
    let (state, clock) = consumer();
    state.received();
    state.failed(0, FENCED, "Static consumer fenced by other consumer with same group.instance.id");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(1));
    for _ in 0..12 {
        state.looked(1, Standing::Receives);
        state.received();
        assert!(!is_up(&state), "the other one may come back");
        clock.advance(Duration::from_secs(5));
    }
    state.failed(1, FENCED, "again");
    assert_eq!(state.renew(), Some(2), "its last one is longer ago than the pause");
    state.failed(2, FENCED, "at once");
    clock.advance(RENEW_FIRST * 4 - Duration::from_secs(1));
    assert_eq!(state.renew(), None, "the pauses grow on");
    clock.advance(Duration::from_secs(1));
    assert_eq!(state.renew(), Some(3));
    for _ in 0..14 {
        assert!(!is_up(&state));
        state.looked(3, Standing::Receives);
        clock.advance(Duration::from_secs(5));
    }
    assert!(is_up(&state), "for longer than the other one waits");
}

#[test]
fn what_only_time_ends_is_told_again_once_what_came_since_is_over() {
    let (state, clock) = consumer();
    state.failed(0, FENCED, "fenced");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(1));
    let tells = |trouble: Trouble| state.report().fault().unwrap().contains(trouble.problem);
    state.looked(1, Standing::Waits);
    clock.advance(JOINING);
    state.looked(1, Standing::Waits);
    assert!(tells(APART));
    state.received();
    assert!(tells(APART), "a message is of one partition");
    state.looked(1, Standing::Receives);
    assert!(tells(FENCED), "the statistics have taken it back");
    state.failed(1, DENIED, "Topic authorization failed");
    assert!(tells(DENIED));
    state.received();
    assert!(tells(FENCED), "a message came, so it may read");
    clock.advance(RENEW_FIRST * 2);
    assert_eq!(state.renew(), None, "nothing is left that a new client would end");
    state.failed(1, REFUSED, "SASL authentication error");
    state.looked(1, Standing::Receives);
    assert!(tells(REFUSED));
    state.looked(1, Standing::Receives);
    assert!(tells(FENCED), "two looks in a row");
    state.failed(1, FENCED, "fenced");
    state.received();
    assert_eq!(state.renew(), Some(2), "a message that came before it was fenced proves nothing");
    state.failed(2, DENIED, "Topic authorization failed");
    clock.advance(RENEW_FIRST * 4);
    assert_eq!(state.renew(), Some(3));
    state.looked(3, Standing::Waits);
    assert!(tells(DENIED), "it is not in its group yet");
}

#[test]
fn who_was_fenced_and_could_not_be_made_anew_is_tried_again_whatever_comes() {
    let (state, clock) = consumer();
    state.failed(0, FENCED, "fenced");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(1));
    state.not_renewed();
    state.received();
    clock.advance(RENEW_FIRST * 2);
    assert_eq!(state.renew(), Some(1));
}

#[test]
fn a_client_that_can_not_be_made_is_tried_again() {
    let (state, clock) = consumer();
    state.failed(0, DENIED, "Topic authorization failed");
    clock.advance(RENEW_FIRST);
    assert_eq!(state.renew(), Some(1));
    state.not_renewed();
    assert_eq!(state.renew(), None, "not at once");
    clock.advance(RENEW_FIRST * 2);
    assert_eq!(state.renew(), Some(1));
}
