//! Events on the copy, in every order.

use std::time::Duration;

use common::db::{Conn, DbError};
use engine::inbox::{CopyVersion, Handler, HandlerOutcome};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::copy_fixture::{CopyFixture, START, applied, snapshot, superseded, tombstone};
use crate::inventory::{InventoryHandler, lock};

async fn a_new_state_becomes_the_copy(fixture: &CopyFixture) {
    fixture.clock.advance(Duration::from_secs(1));
    let answers = fixture.apply(vec![fixture.event("A", 1, 1)]).await;
    assert_eq!(answers, [applied(1)]);
    let copy = fixture.copy("A").await.unwrap();
    assert_eq!((&*copy.description, copy.quantity, copy.unit_price_minor), ("HEART", 10, 255));
    assert_eq!(
        (copy.epoch, copy.version, copy.removed, copy.allow_backorder),
        (1, 1, false, false)
    );
    assert_eq!(copy.updated_us, START.before(Duration::from_millis(1_500)));
    assert_eq!(copy.applied_us, START.after(Duration::from_secs(1)));
    assert_eq!(fixture.apply(Vec::new()).await, []);
}

async fn a_sku_that_no_new_product_could_have_is_applied(fixture: &CopyFixture) {
    let old = "TEA\u{200b}";
    assert_eq!(fixture.apply(vec![fixture.event(old, 1, 1)]).await, [applied(1)]);
    assert_eq!(fixture.state(old).await, (1, 1, 10));
    let shown = fixture.get("/inventory/TEA%E2%80%8B").await;
    assert_eq!(shown.body["sku"], old);
}

async fn the_same_state_again_changes_nothing(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event("A", 1, 1)]).await;
    let before = fixture.copy("A").await;
    fixture.clock.advance(Duration::from_secs(1));
    let mut other = snapshot("A", 1);
    other["quantity"] = json!(999);
    let answers = fixture.apply(vec![fixture.event_of("A", 1, other)]).await;
    assert_eq!(answers, [superseded(1)]);
    assert_eq!(fixture.copy("A").await, before);
}

async fn an_older_state_never_undoes_a_newer_one(fixture: &CopyFixture) {
    for (version, answer) in
        [(3, applied(3)), (1, superseded(3)), (2, superseded(3)), (4, applied(4))]
    {
        assert_eq!(fixture.apply(vec![fixture.event("A", 1, version)]).await, [answer]);
    }
    assert_eq!(fixture.state("A").await, (1, 4, 40));
}

async fn a_batch_is_folded_to_the_newest_of_each_product(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event("C", 1, 9)]).await;
    let batch = [("B", 1), ("A", 1), ("A", 3), ("C", 8), ("A", 2), ("B", 2), ("A", 3), ("C", 7)];
    let events = batch.iter().map(|(sku, version)| fixture.event(sku, 1, *version)).collect();
    let answers = fixture.apply(events).await;
    let wanted = [
        superseded(2),
        superseded(3),
        applied(3),
        superseded(9),
        superseded(3),
        applied(2),
        superseded(3),
        superseded(9),
    ];
    assert_eq!(answers, wanted);
    assert_eq!(fixture.state("A").await, (1, 3, 30));
    assert_eq!(fixture.state("B").await, (1, 2, 20));
    assert_eq!(fixture.state("C").await, (1, 9, 90));
}

/// After its database came back from a backup, the source's versions are lower and its epoch is higher.
async fn a_higher_epoch_beats_every_version(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event("A", 1, 9)]).await;
    assert_eq!(fixture.apply(vec![fixture.event("A", 2, 1)]).await, [applied(1)]);
    assert_eq!(fixture.apply(vec![fixture.event("A", 1, 10)]).await, [superseded(1)]);
    assert_eq!(fixture.state("A").await, (2, 1, 10));
    let mixed = vec![fixture.event("B", 1, 9), fixture.event("B", 2, 2), fixture.event("B", 2, 1)];
    assert_eq!(fixture.apply(mixed).await, [superseded(2), applied(2), superseded(2)]);
}

async fn a_tombstone_keeps_older_states_out(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event("A", 1, 1)]).await;
    let removal = fixture.event_of("A", 1, tombstone("A", 3));
    assert_eq!(fixture.apply(vec![removal]).await, [applied(3)]);
    assert_eq!(fixture.apply(vec![fixture.event("A", 1, 2)]).await, [superseded(3)]);
    assert!(fixture.copy("A").await.unwrap().removed);
    assert_eq!(fixture.apply(vec![fixture.event("A", 1, 4)]).await, [applied(4)]);
    assert!(!fixture.copy("A").await.unwrap().removed);
    // A removal may be the first that arrives.
    let removal = fixture.event_of("B", 1, tombstone("B", 2));
    assert_eq!(fixture.apply(vec![removal]).await, [applied(2)]);
}

async fn a_bad_event_fails_alone_and_for_good(fixture: &CopyFixture) {
    let bad = |change: fn(&mut Value)| {
        let mut data = snapshot("X", 1);
        change(&mut data);
        fixture.event_of("X", 1, data)
    };
    let mut garbage = fixture.event("X", 1, 1);
    garbage.data = b"\xff{".to_vec();
    let mut unknown = fixture.event("X", 1, 1);
    unknown.event_type = "stockloop.order.placed".to_owned();
    let mut other_key = fixture.event("X", 1, 1);
    other_key.key = "Y".to_owned();
    let mut untrue = fixture.event("X", 1, 1);
    untrue.event_type = "stockloop.inventory.removed".to_owned();
    let mut deep = fixture.event("X", 1, 1);
    deep.data = b"[".repeat(100_000);
    let mut list = fixture.event("X", 1, 1);
    list.data = br#"["X","",1,1,false,false,1,"2010-12-01T08:26:00Z",null]"#.to_vec();
    for (event, word) in [
        (list, "object"),
        (garbage, "snapshot"),
        (unknown, "stockloop.order.placed"),
        (other_key, "key"),
        (untrue, "removed"),
        (deep, "snapshot"),
        (bad(|data| drop(data.as_object_mut().unwrap().remove("quantity"))), "quantity"),
        (bad(|data| data["quantity"] = json!(1.5)), "1.5"),
        (bad(|data| data["version"] = json!(0)), "version"),
        (bad(|data| data["version"] = json!(u64::MAX)), "integer"),
        (bad(|data| data["description"] = json!("a\u{0}b")), "U+0000"),
        (bad(|data| data["sku"] = json!("a\nb")), "control"),
        (bad(|data| data["updated_at"] = json!("yesterday")), "snapshot"),
    ] {
        let first = fixture.event("A", 1, 1);
        let last = fixture.event("B", 1, 1);
        let answers = fixture.apply(vec![first, event, last]).await;
        let HandlerOutcome::Failed { error, retryable: false } = &answers[1] else {
            panic!("{answers:?}")
        };
        assert!(error.contains(word), "{error} does not tell of {word}");
        assert!(matches!(answers[0], HandlerOutcome::Success { .. }));
        assert!(matches!(answers[2], HandlerOutcome::Success { .. }));
    }
    assert_eq!(fixture.copy("X").await, None);
    assert_eq!(fixture.copy("Y").await, None);
    assert!(fixture.copy("A").await.is_some() && fixture.copy("B").await.is_some());
}

async fn what_later_sources_add_is_ignored(fixture: &CopyFixture) {
    let mut data = snapshot("A", 1);
    data["colour"] = json!({"rgb": [1, 2, 3]});
    data["cause"] = json!({"kind": "stocktaking", "by": "somebody"});
    assert_eq!(fixture.apply(vec![fixture.event_of("A", 1, data)]).await, [applied(1)]);
    let mut data = snapshot("A", 2);
    data.as_object_mut().unwrap().remove("cause");
    assert_eq!(fixture.apply(vec![fixture.event_of("A", 1, data)]).await, [applied(2)]);
}

async fn values_arrive_as_they_were_sent(fixture: &CopyFixture) {
    let texts =
        ["", "123", "1e3", "null", "it's \"quoted\" \\ {}", "日本 ß \u{1F600}", "[1,2]", "true"];
    for (n, text) in texts.iter().enumerate() {
        let (min, max) = (n % 2 == 0, n % 3 == 0);
        let sku = if text.is_empty() { "empty" } else { text };
        let mut data = snapshot(sku, i64::MAX);
        data["description"] = json!(text);
        data["quantity"] = json!(if min { i64::MIN } else { i64::MAX });
        data["unit_price_minor"] = json!(i64::MAX);
        data["allow_backorder"] = json!(max);
        assert_eq!(
            fixture.apply(vec![fixture.event_of(sku, i64::MAX, data)]).await,
            [applied(i64::MAX)]
        );
        let copy = fixture.copy(sku).await.unwrap();
        assert_eq!(copy.description, *text);
        assert_eq!(copy.quantity, if min { i64::MIN } else { i64::MAX });
        assert_eq!(
            (copy.epoch, copy.version, copy.unit_price_minor),
            (i64::MAX, i64::MAX, i64::MAX)
        );
        assert_eq!(copy.allow_backorder, max);
    }
}

async fn a_batch_may_be_large(fixture: &CopyFixture) {
    let batch = |version: i64| -> Vec<_> {
        (0..2_000).map(|n| fixture.event(&format!("S{n}"), 1, version)).collect()
    };
    let first = fixture.apply(batch(2)).await;
    assert!(first.iter().all(|answer| *answer == applied(2)));
    let older = fixture.apply(batch(1)).await;
    assert!(older.iter().all(|answer| *answer == superseded(2)));
    let newer = fixture.apply(batch(3)).await;
    assert!(newer.iter().all(|answer| *answer == applied(3)));
}

async fn batches_at_once_end_with_the_newest(fixture: &CopyFixture) {
    let batch = |version: i64, backwards: bool| {
        let mut skus: Vec<i64> = (0..50).collect();
        if backwards {
            skus.reverse();
        }
        let events: Vec<_> =
            skus.iter().map(|n| fixture.event(&format!("S{n}"), 1, version)).collect();
        fixture.apply(events)
    };
    for round in 0..10 {
        let base = round * 4;
        tokio::join!(
            batch(base + 2, false),
            batch(base + 4, true),
            batch(base + 1, false),
            batch(base + 3, true),
        );
        for n in 0..50 {
            assert_eq!(fixture.state(&format!("S{n}")).await.1, base + 4);
        }
    }
}

#[test]
fn knows_no_commands() {
    assert!(!InventoryHandler.is_command("stockloop.inventory.changed"));
}

async fn the_other_service_is_told_what_the_copy_holds(fixture: &CopyFixture) {
    fixture.apply(vec![fixture.event("A", 2, 7)]).await;
    let version = |key: &'static str| async move {
        let read = fixture
            .inventory
            .db
            .read::<_, DbError>(move |conn| Ok(InventoryHandler.copy_version(conn, key)?));
        read.await.unwrap()
    };
    assert_eq!(version("A").await, Some(CopyVersion { epoch: 2, version: 7 }));
    assert_eq!(version("B").await, None);
}

/// SQLite binds 32,766 values at the most.
async fn more_products_may_be_locked_than_a_statement_binds(fixture: &CopyFixture) {
    let ends = vec![fixture.event("S32999", 1, 2), fixture.event("S00000", 1, 1)];
    fixture.apply(ends).await;
    let lock = |conn: &mut Conn| {
        let skus: Vec<String> = (0..33_000).map(|n| format!("S{n:05}")).collect();
        let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
        lock(conn, &skus).map_err(DbError::from)
    };
    let locked = fixture.inventory.db.write(lock).await.unwrap();
    let locked: Vec<&str> = locked.iter().map(|copy| copy.sku.as_str()).collect();
    assert_eq!(locked, ["S00000", "S32999"]);
}

on_every_database!(&CopyFixture::new =>
    a_new_state_becomes_the_copy,
    a_sku_that_no_new_product_could_have_is_applied,
    the_other_service_is_told_what_the_copy_holds,
    the_same_state_again_changes_nothing,
    an_older_state_never_undoes_a_newer_one,
    a_batch_is_folded_to_the_newest_of_each_product,
    a_higher_epoch_beats_every_version,
    a_tombstone_keeps_older_states_out,
    a_bad_event_fails_alone_and_for_good,
    what_later_sources_add_is_ignored,
    values_arrive_as_they_were_sent,
    a_batch_may_be_large,
    more_products_may_be_locked_than_a_statement_binds,
    batches_at_once_end_with_the_newest,
);
