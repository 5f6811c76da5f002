//! The kept states of keys, sent through the loop once more.

use std::sync::Arc;
use std::time::Duration;

use common::db::DbError;
use common::event::EventRow;
use common::on;
use common::schema::{outbox_event, outbox_pending, service_state};
use diesel::prelude::*;
use engine::bulk::JobState;
use engine::resync::{self, KeptStates, NewResync, Resync, ResyncJob, ResyncKind, ResyncSelection};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, START, delta};
use crate::inventory::OwnedInventory;

on_every_database!(&ProductFixture::new =>
    each_key_goes_through_its_states_and_ends_with_the_present_one,
    a_long_history_is_sent_step_by_step_whoever_goes_on,
    only_states_since_a_moment_or_a_version_are_sent,
    what_is_gone_is_left_out_and_a_key_without_a_row_skipped,
);

const SECOND: Duration = Duration::from_secs(1);

/// Puts the job down and works on it to its end, each step by an instance that knows nothing of the one before.
async fn replay(fixture: &ProductFixture, kept: KeptStates) -> (ResyncJob, Vec<EventRow>, usize) {
    let before = fixture.events().await.len();
    let selection = ResyncSelection::Kept(kept).to_json().unwrap();
    let job = NewResync {
        kind: ResyncKind::Replay,
        selection,
        reason: Some("anew".to_owned()),
        state: JobState::Waiting,
        expected: None,
        created_us: START,
        created_by: "ada".to_owned(),
        created_via: "session".to_owned(),
    };
    let inventory = &fixture.inventory;
    let put = inventory.db.write::<_, DbError>(move |conn| Ok(resync::insert(conn, &job)?));
    let seq = put.await.unwrap();
    let mut steps = 0;
    loop {
        let (db, env, outbox) = (&inventory.db, &inventory.env, &inventory.outbox);
        let owner = Arc::new(OwnedInventory);
        let step =
            Resync::default().run_once(db, env, outbox, owner, "order-service").await.unwrap();
        if !step.worked {
            break;
        }
        assert!(step.appended <= 101, "{step:?}");
        steps += 1;
    }
    let job = inventory.db.read::<_, DbError>(move |conn| Ok(resync::find(conn, seq)?)).await;
    let events = fixture.events().await.split_off(before);
    (job.unwrap().unwrap(), events, steps)
}

fn of(keys: &[&str]) -> KeptStates {
    KeptStates {
        consumer: Some("order-service".to_owned()),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..KeptStates::default()
    }
}

fn told(events: &[EventRow]) -> Vec<(&str, i64, i64)> {
    events.iter().map(|event| (event.key.as_str(), event.epoch, event.version)).collect()
}

async fn each_key_goes_through_its_states_and_ends_with_the_present_one(fixture: &ProductFixture) {
    fixture.stock("B", 5).await;
    fixture.delete("B", &[]).await;
    fixture.stock("A", 5).await;
    fixture.adjust("A", &[], delta(-1)).await.ok();
    let raised = fixture.inventory.db.write::<_, DbError>(|conn| {
        Ok(on!(conn, c => diesel::update(service_state::table)
            .set(service_state::epoch.eq(9_i64))
            .execute(c))?)
    });
    raised.await.unwrap();
    let first = fixture.events().await[2].clone();
    let (job, events, _) = replay(fixture, of(&["B", "A", "B"])).await;
    assert_eq!(
        told(&events),
        [("A", 1, 1), ("A", 9, 2), ("B", 1, 1), ("B", 9, 2)],
        "states keep their epoch; the present one is of this"
    );
    let payload: Value = serde_json::from_str(&events[0].payload).unwrap();
    let cause = json!({"kind": "replay", "reason": "anew", "reference": first.id});
    assert_eq!((&payload["quantity"], &payload["cause"]), (&json!(5), &cause));
    assert_ne!(events[0].id, first.id);
    let last: Value = serde_json::from_str(&events[3].payload).unwrap();
    assert_eq!((&last["removed"], &last["cause"]["kind"]), (&json!(true), &json!("replay")));
    assert_eq!(events[3].event_type, "stockloop.inventory.removed");
    assert_eq!((job.state, job.done, job.skipped), (JobState::Done, 4, 0));
    // What is sent again is no version more, and not what caused one.
    let page = fixture.get("/inventory/A/history").await.ok();
    let causes: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|item| &item["cause"]["kind"]).collect();
    assert_eq!(causes, ["adjustment", "put"]);
}

async fn a_long_history_is_sent_step_by_step_whoever_goes_on(fixture: &ProductFixture) {
    for _ in 0..230 {
        fixture.stock("A", 5).await;
    }
    for n in 0..130 {
        fixture.stock(&format!("P{n:03}"), 5).await;
    }
    let keys: Vec<String> = (0..130).map(|n| format!("P{n:03}")).collect();
    let keys: Vec<&str> = std::iter::once("A").chain(keys.iter().map(String::as_str)).collect();
    let (job, events, steps) = replay(fixture, of(&keys)).await;
    let told = told(&events);
    let versions: Vec<i64> = told.iter().take(230).map(|(_, _, version)| *version).collect();
    assert_eq!(versions, (1..=230).collect::<Vec<_>>(), "in order, each once");
    let rest: Vec<&str> = told.iter().skip(230).map(|(key, ..)| *key).collect();
    assert_eq!(rest, keys[1..]);
    assert!((4..=6).contains(&steps), "{steps}");
    assert_eq!((job.state, job.done), (JobState::Done, 360));
    // The same of all keys since a moment.
    let since = KeptStates { since: Some(START), ..of(&[]) };
    let (job, events, _) = replay(fixture, since).await;
    assert_eq!((job.done, events.len()), (360, 360));
}

async fn only_states_since_a_moment_or_a_version_are_sent(fixture: &ProductFixture) {
    fixture.stock("OLD", 1).await;
    fixture.stock("A", 9).await;
    fixture.clock.advance(SECOND);
    fixture.adjust("A", &[], delta(-1)).await.ok();
    fixture.clock.advance(SECOND);
    fixture.adjust("A", &[], delta(-1)).await.ok();
    let since = KeptStates { since: Some(START.after(SECOND)), ..of(&[]) };
    let (_, events, _) = replay(fixture, since).await;
    assert_eq!(told(&events), [("A", 1, 2), ("A", 1, 3)]);
    let from = KeptStates { from_version: Some(3), ..of(&["A"]) };
    let (_, events, _) = replay(fixture, from).await;
    assert_eq!(told(&events), [("A", 1, 3)]);
    let beyond = KeptStates { from_version: Some(7), ..of(&["A"]) };
    let (_, events, _) = replay(fixture, beyond).await;
    assert_eq!(told(&events), [("A", 1, 3)], "it ends with the present state in any case");
}

async fn what_is_gone_is_left_out_and_a_key_without_a_row_skipped(fixture: &ProductFixture) {
    for _ in 0..4 {
        fixture.stock("A", 5).await;
    }
    let forgotten = fixture.inventory.db.write::<_, DbError>(|conn| {
        let old = outbox_event::table.filter(outbox_event::version.eq_any([2_i64, 4]));
        let ids = outbox_event::table
            .filter(outbox_event::version.eq_any([2_i64, 4]))
            .select(outbox_event::id);
        let ids: Vec<common::ids::EventId> = on!(&mut *conn, c => ids.load(c))?;
        let open = outbox_pending::table.filter(outbox_pending::id.eq_any(ids));
        on!(&mut *conn, c => diesel::delete(open).execute(c))?;
        Ok(on!(conn, c => diesel::delete(old).execute(c))?)
    });
    assert_eq!(forgotten.await.unwrap(), 2);
    let (job, events, _) = replay(fixture, of(&["A", "GHOST"])).await;
    assert_eq!(told(&events), [("A", 1, 1), ("A", 1, 3), ("A", 1, 4)], "the row has the last one");
    assert_eq!((job.done, job.skipped), (3, 1));
    let skipped = fixture
        .inventory
        .db
        .read::<_, DbError>(move |conn| Ok(resync::skipped(conn, job.seq, "", 10)?));
    let skipped = skipped.await.unwrap();
    assert_eq!(
        (skipped[0].key.as_str(), skipped[0].why.as_str()),
        ("GHOST", "there is no such product")
    );
}
