//! States that are sent again.

use common::clock::Timestamp;
use common::db::DbError;
use engine::resync::{Resend, ResendKey, ResyncKind, Walked, Which};
use engine::verify::{Keys, Owner, Replica, Select};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, START};
use crate::inventory::OwnedInventory;

on_every_database!(ProductFixture::new =>
    what_a_copy_is_level_with_or_ahead_of_is_raised_above_it,
    what_only_a_copy_has_gets_a_tombstone,
    what_nobody_has_is_skipped,
    keys_are_walked_by_prefix_and_age,
    rows_are_cut_by_range_and_name,
);

async fn resend(fixture: &ProductFixture, keys: &[(&str, Option<i64>)]) -> Vec<(String, String)> {
    let keys: Vec<ResendKey> = keys
        .iter()
        .map(|(key, above)| ResendKey { key: (*key).to_owned(), above: *above })
        .collect();
    let outbox = fixture.inventory.outbox.clone();
    let done = fixture.inventory.db.write::<_, DbError>(move |conn| {
        let resend =
            Resend { keys: &keys, kind: ResyncKind::Repair, reason: Some("by hand"), now: START };
        let resent = OwnedInventory.resend(conn, &resend)?;
        outbox.append(conn, resent.events)?;
        Ok(resent.skipped)
    });
    done.await.unwrap()
}

/// The newest payload of each key is what all rows say.
async fn told(fixture: &ProductFixture, count: usize) -> Vec<(Value, Value, Value, Value)> {
    let payloads = fixture.payloads().await;
    let newest = payloads.into_iter().rev().take(count);
    let mut told: Vec<_> = newest
        .map(|event| {
            (
                event["sku"].clone(),
                event["version"].clone(),
                event["removed"].clone(),
                event["cause"].clone(),
            )
        })
        .collect();
    told.reverse();
    told
}

async fn what_a_copy_is_level_with_or_ahead_of_is_raised_above_it(fixture: ProductFixture) {
    for sku in ["A", "B", "C", "D"] {
        fixture.stock(sku, 5).await;
        fixture.stock(sku, 6).await;
    }
    let before = fixture.rows().await;
    let skipped =
        resend(&fixture, &[("A", None), ("B", Some(1)), ("C", Some(2)), ("D", Some(9))]).await;
    assert_eq!(skipped, []);
    let cause = json!({"kind": "repair", "reason": "by hand"});
    let version =
        |sku: &str, version: i64| (json!(sku), json!(version), json!(false), cause.clone());
    let told = told(&fixture, 4).await;
    assert_eq!(told, [version("A", 2), version("B", 2), version("C", 3), version("D", 10)]);
    let after = fixture.rows().await;
    let content = |row: &crate::inventory::Product| (row.quantity, row.updated_us, row.removed);
    assert!(before.iter().zip(&after).all(|(one, other)| content(one) == content(other)));
    let versions: Vec<i64> = after.iter().map(|row| row.version).collect();
    assert_eq!(versions, [2, 2, 3, 10], "the rows say what the events say");
}

async fn what_only_a_copy_has_gets_a_tombstone(fixture: ProductFixture) {
    fixture.stock("A", 5).await;
    assert_eq!(resend(&fixture, &[("GHOST", Some(41))]).await, []);
    let cause = json!({"kind": "repair", "reason": "by hand"});
    let told = told(&fixture, 1).await;
    assert_eq!(told, [(json!("GHOST"), json!(42), json!(true), cause)]);
    assert_eq!(fixture.get("/inventory/GHOST").await.status, 404);
    let put = fixture.put("GHOST", &[], super::product_fixture::content(1)).await;
    assert_eq!(put.body["version"], 43, "{put:?}");
}

async fn what_nobody_has_is_skipped(fixture: ProductFixture) {
    fixture.stock("A", 5).await;
    let keys = [(" B", Some(1)), ("A", None), ("C", None), ("D", Some(i64::MAX))];
    let mut skipped = resend(&fixture, &keys).await;
    skipped.sort();
    let keys: Vec<&str> = skipped.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, [" B", "C", "D"]);
    assert!(skipped[2].1.contains("delete its row there"), "{skipped:?}");
    assert_eq!(fixture.events().await.len(), 2);
}

async fn keys_are_walked_by_prefix_and_age(fixture: ProductFixture) {
    for sku in ["A1", "B1", "B2", "B3", "C1"] {
        fixture.stock(sku, 5).await;
    }
    fixture.delete("B3", &[]).await;
    let walk = async |after: &'static str, which: Which, limit: i64| {
        let walk = fixture.inventory.db.read::<_, DbError>(move |conn| {
            Ok(OwnedInventory.next_keys(conn, after, &which, limit)?)
        });
        walk.await.unwrap()
    };
    let of = |keys: &[&str], cursor: Option<&str>| Walked {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        cursor: cursor.map(str::to_owned),
    };
    let with_b = || Which { prefix: Some("B".to_owned()), ..Which::default() };
    assert_eq!(walk("", Which::default(), 9).await, of(&["A1", "B1", "B2", "B3", "C1"], None));
    assert_eq!(walk("", with_b(), 9).await, of(&["B1", "B2", "B3"], None));
    assert_eq!(walk("", with_b(), 2).await, of(&["B1", "B2"], Some("B2")));
    assert_eq!(walk("B2", with_b(), 2).await, of(&["B3"], None));
    let later = Timestamp::from_micros(START.micros() + 1);
    let young = Which { changed_since: Some(later), ..Which::default() };
    assert_eq!(walk("", young, 9).await, of(&[], None));
}

async fn rows_are_cut_by_range_and_name(fixture: ProductFixture) {
    for sku in ["A", "B", "C", "%C3%BC"] {
        fixture.stock(sku, 5).await;
    }
    fixture.delete("C", &[]).await;
    let rows = async |keys: Keys<'static>, tombstones_since: Timestamp| {
        let read = fixture.inventory.db.read::<_, DbError>(move |conn| {
            let fields: Vec<String> =
                OwnedInventory.fields().iter().map(|&field| field.to_owned()).collect();
            let select = Select { keys, tombstones_since, fields: &fields, limit: 10 };
            Ok(OwnedInventory.rows(conn, &select)?)
        });
        read.await.unwrap().into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    let long_ago = Timestamp::default();
    assert_eq!(rows(Keys::Between(None, None), long_ago).await, ["A", "B", "C", "ü"]);
    assert_eq!(rows(Keys::Between(Some("A"), Some("C")), long_ago).await, ["B", "C"]);
    let later = Timestamp::from_micros(START.micros() + 1);
    assert_eq!(
        rows(Keys::Between(Some("A"), Some("C")), later).await,
        ["B"],
        "the tombstone is too old"
    );
    let named: &'static [String] =
        Box::leak(Box::new(["ü".to_owned(), "A".to_owned(), "no".to_owned()]));
    assert_eq!(rows(Keys::Named(named), long_ago).await, ["A", "ü"]);
}
