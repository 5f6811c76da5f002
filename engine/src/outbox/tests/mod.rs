//! The outbox against both databases: that the stored states follow [`step`], and that every effect is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventType, NewEvent, Status};
use common::ids::EventId;
use common::on;
use common::retry::Backoff;
use common::schema::{
    alert, consumer_partition, counter, dead_letter, outbox_history, outbox_open,
};
use common::telemetry::Spans;
use diesel::prelude::*;
use stockloop_tests::{database::TestDatabase, on_every_database, outbox::change_open};

use super::advance::{SUPERSEDED, advance};
use super::position::Position;
use super::state::{AckOutcome, Policy, Transition, Trigger, step};
use super::store::{self, Confirmation, DueRow, Fresh, ShardRead};
use super::update::Update;
use super::*;
use crate::counters;
use crate::kafka::{Ack, AckBatch, Record, Signing, Verdict};
use crate::outbox::operate;
use crate::restored::ReadPositions;
use crate::retention::{self, Retention};

mod acks;
mod consumers;
mod fixture;
mod hostile;
mod listener;
mod observing;
mod overdue;
mod pauses;
mod relaying;
mod sending;
mod statements;
mod upgrade;

use fixture::OutboxFixture;

const TOPIC: &str = "inventory";
const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const POLICY: Policy = Policy {
    backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) },
    listener: None,
};
const SNAPSHOT: EventType = EventType { name: "test.changed", kind: EventKind::Snapshot };
const COMMAND: EventType = EventType { name: "test.placed", kind: EventKind::Command };

on_every_database!(OutboxFixture::new =>
    the_database_follows_the_state_table,
    a_success_of_any_attempt_ends_it,
    strangers_and_noise_change_nothing,
    an_exhaustion_has_one_alert_until_it_arrives,
    a_newer_version_resolves_an_older_failure,
    a_newer_version_resolves_more_than_a_step_takes,
    a_race_of_giving_up_and_arriving_leaves_no_alert,
    a_command_is_never_superseded,
    old_settled_events_go_and_open_ones_stay,
);

/// Each state, each trigger: what is stored afterwards is what `step` says.
async fn the_database_follows_the_state_table(fixture: OutboxFixture) {
    let acked = |attempt, outcome| Trigger::Acked { attempt, outcome };
    let triggers = [
        Trigger::Confirmed { attempt: 1, partition: 3, offset: Some(7) },
        Trigger::Confirmed { attempt: 2, partition: 3, offset: Some(7) },
        Trigger::Confirmed { attempt: 5, partition: 3, offset: Some(7) },
        acked(1, AckOutcome::Success),
        acked(1, AckOutcome::Rejected),
        acked(1, AckOutcome::Failed { retryable: true }),
        acked(1, AckOutcome::Failed { retryable: false }),
        acked(2, AckOutcome::Failed { retryable: true }),
        acked(5, AckOutcome::Failed { retryable: true }),
        Trigger::Probed { attempt: 2, partition: 3, offset: Some(9) },
        Trigger::Unproducible,
        Trigger::Overdue,
        Trigger::Superseded,
        Trigger::Retried { more: 3 },
        Trigger::Resolved,
    ];
    let (pending, sent, exhausted) = (Status::Pending, Status::Sent, Status::Exhausted);
    let states = [
        (pending, 0),
        (pending, 1),
        (pending, 4),
        (sent, 1),
        (sent, 5),
        (exhausted, 1),
        (exhausted, 5),
    ];
    for event_type in [SNAPSHOT, COMMAND] {
        for (status, attempt) in states {
            for trigger in triggers {
                let id = fixture.append(event_type, "A", 1).await;
                let fresh = fixture.open(id).await.unwrap();
                let sent = (status == Status::Sent).then_some((Some(0), Some(START)));
                let (partition, sent_us) = sent.unwrap_or_default();
                let before = OpenRow { status, attempt, partition, sent_us, ..fresh };
                fixture.force(before.clone()).await;
                let expected = step(&before, event_type.kind, trigger, START, &POLICY, 0.5);
                let mut update = Update::new(id, trigger);
                if let Trigger::Acked { attempt, outcome } = trigger {
                    let verdict = match outcome {
                        AckOutcome::Success => Verdict::Success,
                        AckOutcome::Rejected => Verdict::Rejected,
                        AckOutcome::Failed { .. } => Verdict::Failed,
                    };
                    let retryable = outcome == AckOutcome::Failed { retryable: true };
                    let ack = Ack { retryable, ..fixture.ack(id, attempt, verdict) };
                    update = Update::answered(ack);
                    assert_eq!(update.trigger, trigger);
                }
                match trigger {
                    Trigger::Confirmed { attempt, partition, offset } => {
                        let shard = before.shard;
                        let sent =
                            Confirmation { id, shard, attempt, partition, offset, sent_us: START };
                        fixture.run(move |conn| store::mark_sent(conn, &[sent], START)).await;
                    }
                    _ => {
                        let env = fixture.env.clone();
                        fixture.run(move |conn| advance(conn, &env, &POLICY, vec![update])).await;
                    }
                }
                let after = fixture.open(id).await;
                let context = format!("{event_type:?} {status:?}/{attempt} on {trigger:?}");
                match expected {
                    Transition::Stay => assert_eq!(after, Some(before), "{context}"),
                    Transition::Settle => assert_eq!(after, None, "{context}"),
                    Transition::Change(row) | Transition::Exhaust(row) => {
                        let after = after.expect(&context);
                        // The backoff's jitter is chance; all else is not.
                        assert_eq!(OpenRow { due_us: row.due_us, ..after }, row, "{context}");
                    }
                }
            }
        }
    }
}

async fn a_success_of_any_attempt_ends_it(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 3).await;
    fixture.settle(vec![fixture.ack(id, 1, Verdict::Failed)]).await;
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Pending);
    fixture.send(id, 2, 3).await;
    // The first attempt's answer comes late, and twice: it arrived, and that is all that counts.
    let late = fixture.ack(id, 1, Verdict::Success);
    let settlement = fixture.settle(vec![late.clone(), late.clone()]).await;
    assert_eq!(settlement.advanced.settled.len(), 1);
    assert_eq!(fixture.open(id).await, None);
    let again = fixture.settle(vec![late]).await;
    assert_eq!((again.repeated, again.unknown), (1, 0));
    assert_eq!(fixture.history(id).await, [(1, "FAILED".to_owned())]);
}

async fn strangers_and_noise_change_nothing(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let unknown = fixture.ack(fixture.env.event_id(), 1, Verdict::Success);
    let foreign =
        Ack { consumer: "nosy-service".to_owned(), ..fixture.ack(id, 1, Verdict::Success) };
    let settlement = fixture.settle(vec![unknown, foreign]).await;
    assert_eq!((settlement.unknown, settlement.foreign), (1, 1));
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Sent);
    assert_eq!(fixture.settle_bytes(b"not json".to_vec()).await.unreadable, 1);
    let buried: i64 =
        fixture.run(|conn| on!(conn, c => dead_letter::table.count().get_result(c))).await;
    assert_eq!(buried, 1);
}

async fn an_exhaustion_has_one_alert_until_it_arrives(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    for attempt in 1..=5 {
        fixture.send(id, attempt, 0).await;
        let failed = fixture.ack(id, attempt, Verdict::Failed);
        fixture.settle(vec![failed.clone(), failed]).await;
    }
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Exhausted);
    assert_eq!(fixture.alerts().await, [(Some(id), Some(5), None)]);
    let outbox = fixture.outbox.clone();
    let retried = fixture
        .db
        .write(move |conn| {
            operate::retry(conn, &outbox, id, 2, "night shift", Some("shelf is back"))
        })
        .await
        .unwrap();
    assert_eq!((retried.status, retried.attempt, retried.attempt_limit), (Status::Pending, 5, 7));
    fixture.send(id, 6, 0).await;
    fixture.settle(vec![fixture.ack(id, 6, Verdict::Success)]).await;
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].2.is_some(), "the alert is closed");
    let outbox = fixture.outbox.clone();
    let refused = fixture
        .db
        .write(move |conn| operate::resolve(conn, &outbox, id, "night shift", "done"))
        .await;
    let processed = Status::Processed;
    assert!(
        matches!(refused, Err(OperateError::NotExhausted { status, .. }) if status == processed)
    );
}

async fn a_newer_version_resolves_an_older_failure(fixture: OutboxFixture) {
    // The older gives up first, then the newer arrives.
    let older = fixture.append(SNAPSHOT, "A", 1).await;
    let newer = fixture.append(SNAPSHOT, "A", 2).await;
    fixture.exhaust(older, 0).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    let row = fixture.open(older).await.unwrap();
    assert_eq!((row.status, row.resolved_us.is_some()), (Status::Exhausted, true));
    // The newer is there before the older gives up.
    let older = fixture.append(SNAPSHOT, "B", 1).await;
    let newer = fixture.append(SNAPSHOT, "B", 2).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    fixture.exhaust(older, 0).await;
    let row = fixture.open(older).await.unwrap();
    assert_eq!((row.status, row.resolved_us.is_some()), (Status::Exhausted, true));
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 2, "each exhaustion has its alert");
    assert!(alerts.iter().all(|(_, _, closed)| closed.is_some()));
}

async fn a_newer_version_resolves_more_than_a_step_takes(fixture: OutboxFixture) {
    let count = i64::try_from(SUPERSEDED).unwrap() + 500;
    let outbox = fixture.outbox.clone();
    let event = |version| NewEvent {
        event_type: SNAPSHOT,
        key: "A".to_owned(),
        version,
        payload: "{}".to_owned(),
        traceparent: None,
    };
    let events = (1..=count).map(event).collect();
    let ids = fixture.run(move |conn| outbox.append(conn, events)).await;
    let now = fixture.env.now();
    let sent: Vec<Confirmation> = (0..)
        .zip(&ids)
        .map(|(offset, id)| Confirmation {
            id: *id,
            shard: 0,
            attempt: 1,
            partition: 0,
            offset: Some(offset),
            sent_us: now,
        })
        .collect();
    fixture.run(move |conn| store::mark_sent(conn, &sent, now)).await;
    let refused = |id: &EventId| Ack { retryable: false, ..fixture.ack(*id, 1, Verdict::Failed) };
    for ids in ids.chunks(500) {
        fixture.settle(ids.iter().map(refused).collect()).await;
    }
    let newer = fixture.append(SNAPSHOT, "A", count + 1).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    assert!(fixture.alerts().await.iter().all(|alert| alert.2.is_some()), "every alert is closed");
    let resolved: i64 = fixture
        .run(|conn| {
            let resolved = outbox_open::table.filter(outbox_open::resolved_us.is_not_null());
            on!(conn, c => resolved.count().get_result(c))
        })
        .await;
    assert_eq!(resolved, count);
}

async fn a_race_of_giving_up_and_arriving_leaves_no_alert(fixture: OutboxFixture) {
    let older = fixture.append(SNAPSHOT, "A", 1).await;
    let newer = fixture.append(SNAPSHOT, "A", 2).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    // As if the transaction that gave up had not seen the one that settled.
    let row = fixture.open(older).await.unwrap();
    fixture.force(OpenRow { status: Status::Exhausted, attempt: 1, ..row }).await;
    fixture
        .run(move |conn| {
            let facts = store::facts(conn, older)?.unwrap();
            crate::alerts::raise(conn, START, crate::alerts::NewAlert::exhausted(&facts, 1, "x"))
        })
        .await;
    fixture.monitor().resolve_overtaken().await.unwrap();
    assert!(fixture.open(older).await.unwrap().resolved_us.is_some());
    assert!(fixture.alerts().await[0].2.is_some());
}

async fn a_command_is_never_superseded(fixture: OutboxFixture) {
    let older = fixture.append(COMMAND, "A", 0).await;
    let newer = fixture.append(COMMAND, "A", 0).await;
    fixture.exhaust(older, 0).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    assert!(fixture.open(older).await.unwrap().resolved_us.is_none());
    assert_eq!(fixture.alerts().await, [(Some(older), Some(1), None)]);
}

async fn old_settled_events_go_and_open_ones_stay(fixture: OutboxFixture) {
    let settled = fixture.append(SNAPSHOT, "A", 1).await;
    let open = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(settled, 1, 0).await;
    fixture.settle(vec![fixture.ack(settled, 1, Verdict::Success)]).await;
    fixture.clock.advance(Duration::from_secs(3_600));
    let limits =
        Retention { outbox: START.after(Duration::from_secs(1_800)), ..Retention::default() };
    assert_eq!(retention::run_once(&fixture.db, limits).await.unwrap(), 1);
    assert_eq!(retention::run_once(&fixture.db, limits).await.unwrap(), 0);
    assert!(fixture.run(move |conn| store::facts(conn, settled)).await.is_none());
    assert!(fixture.open(open).await.is_some());
}
