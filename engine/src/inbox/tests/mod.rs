//! The inbox on both databases: one effect per event, the same answer each time, and only the bad event fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod blame;
mod fixture;
mod hostile;
mod pipeline;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::clock::Timestamp;
use common::event::Event;
use common::ids::EventId;
use stockloop_tests::{database::TestDatabase, on_every_database};

use self::fixture::{InboxFixture, effect, record, signed};
use super::*;
use crate::alerts::AlertKind;
use crate::inbox::quarantine::QuarantineRow;
use crate::kafka::{Ack, Envelope, Record, Verdict};
use crate::refusals::Refusals;

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

on_every_database!(InboxFixture::new =>
    a_duplicate_has_no_second_effect_and_gets_the_same_answer,
    a_command_may_be_rejected_and_stays_so,
    only_a_command_may_be_rejected,
    a_failure_leaves_no_row_so_that_the_next_attempt_is_fresh,
    quarantine_fails_a_key_until_it_is_released,
    the_unreadable_is_set_aside_and_answered_where_it_can_be,
);

async fn a_duplicate_has_no_second_effect_and_gets_the_same_answer(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "A");
    let again = Event { attempt: 2, ..event.clone() };
    let first = fixture.deliver(&[event.clone(), again.clone()]).await;
    let details = |acks: &[Ack]| acks.iter().map(|a| a.detail.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(details(&first), ["applied", "duplicate"]);
    assert_eq!(first.iter().map(|ack| ack.attempt).collect::<Vec<_>>(), [1, 2]);
    let later = fixture.deliver(&[again]).await;
    assert_eq!((details(&later), later[0].version), (vec!["duplicate".to_owned()], Some(7)));
    assert_eq!((fixture.effects("A").await, fixture.kept().await), (1, 1));
}

async fn a_command_may_be_rejected_and_stays_so(fixture: InboxFixture) {
    let command = fixture.event("test.command", "no");
    for _ in 0..2 {
        let acks = fixture.deliver(std::slice::from_ref(&command)).await;
        assert_eq!(acks[0].outcome, Verdict::Rejected);
        assert_eq!(acks[0].result.as_ref().unwrap().get(), r#"{"reason":"out of stock"}"#);
    }
    assert_eq!(fixture.kept().await, 1);
}

async fn only_a_command_may_be_rejected(fixture: InboxFixture) {
    let events = [fixture.event("test.changed", "no"), fixture.event("test.changed", "A")];
    let acks = fixture.deliver(&events).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, false));
    assert_eq!((acks[1].outcome, fixture.kept().await), (Verdict::Success, 1));
}

async fn a_failure_leaves_no_row_so_that_the_next_attempt_is_fresh(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "fails");
    let acks = fixture.deliver(std::slice::from_ref(&event)).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, true));
    assert_eq!(acks[0].error.as_deref(), Some("no such shelf"));
    assert_eq!(fixture.kept().await, 0);
    let mended = Event { key: "A".to_owned(), attempt: 2, ..event };
    assert_eq!(fixture.deliver(&[mended]).await[0].outcome, Verdict::Success);
    assert_eq!(fixture.effects("A").await, 1);
}

async fn quarantine_fails_a_key_until_it_is_released(fixture: InboxFixture) {
    let row = QuarantineRow {
        key: "A".to_owned(),
        reason: "counting the shelf".to_owned(),
        since_us: START,
        by_whom: "operator".to_owned(),
    };
    fixture.run(move |conn| quarantine::put(conn, &row)).await;
    let events = [fixture.event("test.changed", "A"), fixture.event("test.changed", "B")];
    let acks = fixture.deliver(&events).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, true));
    assert!(acks[0].error.as_ref().unwrap().contains("counting the shelf"));
    assert_eq!(acks[1].outcome, Verdict::Success);
    fixture.run(|conn| quarantine::release(conn, "A")).await;
    assert_eq!(fixture.deliver(&events[..1]).await[0].outcome, Verdict::Success);
}

async fn the_unreadable_is_set_aside_and_answered_where_it_can_be(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "A");
    let mut newer = record(&event);
    for (name, value) in &mut newer.headers {
        if name == "ce_specversion" {
            *value = b"2.0".to_vec();
        }
    }
    let noise = Record { headers: Vec::new(), payload: Some(vec![0, 255]), ..record(&event) };
    let good = fixture.event("test.changed", "B");
    let records = vec![noise.clone(), newer, record(&good), noise];
    let applied = fixture.inbox.apply(records, false).await.unwrap();
    assert_eq!((applied.unreadable, applied.acks.len()), (3, 2));
    let refusal = &applied.acks.iter().find(|(_, ack)| ack.event_id == event.id).unwrap().1;
    assert_eq!((refusal.outcome, refusal.retryable), (Verdict::Failed, false));
    assert!(refusal.error.as_ref().unwrap().contains("2.0"));
    assert_eq!(
        (fixture.effects("B").await, fixture.dead_letters().await),
        (1, 2),
        "the same noise is one letter"
    );
}
