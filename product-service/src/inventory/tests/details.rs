//! The details of a product: its texts and its last adjustments.

use std::time::Duration;

use common::details::MAX_BYTES;
use serde_json::{Value, json};
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, content, delta};

impl ProductFixture {
    async fn details(&self, sku: &str) -> TestResponse {
        self.get(&format!("/inventory/{sku}/details")).await
    }

    async fn put_details(&self, sku: &str, headers: &[(&str, &str)], body: Value) -> TestResponse {
        self.send("PUT", &format!("/inventory/{sku}/details"), headers, body).await
    }
}

async fn starts_without_texts_and_adjustments(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let answer = fixture.details("A").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, ""));
    assert_eq!(
        answer.body,
        json!({"sku": "A", "version": 1, "long_description": null, "supplier": null, "last_adjustments": []})
    );
    let path = "/inventory/A/details";
    assert_eq!(fixture.send("HEAD", path, &[], Value::Null).await.status, 200);
    let answer = fixture.send("DELETE", path, &[], Value::Null).await;
    answer.assert_problem(405, "method-not-allowed", "");
    assert_eq!(answer.header("allow"), "GET, HEAD, PUT");
}

async fn keeps_texts_without_a_version_or_an_event(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let texts = json!({"long_description": "A heart.\nOf wood.", "supplier": "Grünwald & Söhne"});
    let put = fixture.put_details("A", &[], texts).await;
    assert_eq!((put.status.as_u16(), put.header("etag")), (200, ""));
    assert_eq!(put.body["long_description"], "A heart.\nOf wood.");
    assert_eq!(put.body["supplier"], "Grünwald & Söhne");
    assert_eq!(put.body, fixture.details("A").await.body);
    assert_eq!((fixture.rows().await[0].version, fixture.events().await.len()), (1, 1));

    // Changes of the inventory leave the texts alone.
    fixture.put("A", &[], content(9)).await;
    fixture.adjust("A", &[], delta(-1)).await;
    let after = fixture.details("A").await.body;
    assert_eq!((&after["version"], &after["supplier"]), (&json!(3), &json!("Grünwald & Söhne")));

    let half = fixture.put_details("A", &[], json!({"supplier": "Another"})).await;
    assert_eq!(half.body["long_description"], Value::Null);
    assert_eq!(half.body["supplier"], "Another");
    let none = fixture.put_details("A", &[], json!({"supplier": null})).await;
    assert_eq!(none.body["supplier"], Value::Null);
}

async fn lists_the_newest_ten_adjustments(fixture: &ProductFixture) {
    fixture.stock("A", 100).await;
    fixture.stock("B", 100).await;
    for number in 1..=12 {
        fixture.clock.advance(Duration::from_secs(1));
        let body =
            json!({"delta": -number, "reason": "sale", "reference": format!("5363{number}")});
        fixture.adjust("A", &[], body).await;
        fixture.adjust("B", &[], delta(1)).await;
    }
    let body = fixture.details("A").await.body;
    let last = body["last_adjustments"].as_array().unwrap();
    assert_eq!(
        last[0],
        json!({"delta": -12, "quantity": 22, "version": 13, "reason": "sale", "reference": "536312",
            "at": "2010-12-01T08:26:12.000000Z"})
    );
    let deltas: Vec<i64> = last.iter().map(|one| one["delta"].as_i64().unwrap()).collect();
    assert_eq!(deltas, [-12, -11, -10, -9, -8, -7, -6, -5, -4, -3]);
}

async fn are_of_products_that_are_there(fixture: &ProductFixture) {
    let texts = json!({"supplier": "Somebody"});
    fixture.details("A").await.assert_problem(404, "not-found", "sku");
    fixture.put_details("A", &[], texts.clone()).await.assert_problem(404, "not-found", "sku");
    fixture.details("%20").await.assert_problem(422, "invalid", "sku");
    fixture.stock("A", 5).await;
    fixture.adjust("A", &[], delta(1)).await;
    assert_eq!(fixture.put_details("A", &[], texts.clone()).await.status, 200);
    fixture.delete("A", &[]).await;
    fixture.details("A").await.assert_problem(404, "not-found", "sku");
    fixture.put_details("A", &[], texts).await.assert_problem(404, "not-found", "sku");

    // A product that is put in again begins anew, but what was done to its stock was done.
    fixture.stock("A", 7).await;
    let again = fixture.details("A").await.body;
    assert_eq!((&again["version"], &again["supplier"]), (&json!(4), &Value::Null));
    assert_eq!(again["last_adjustments"].as_array().unwrap().len(), 1);
}

async fn name_any_sku(fixture: &ProductFixture) {
    for segment in ["a%2Fb", "100%25", "%E6%97%A5%E6%9C%AC", "details"] {
        fixture.stock(segment, 1).await;
        let put = fixture.put_details(segment, &[], json!({"supplier": segment})).await;
        assert_eq!((put.status.as_u16(), &put.body["supplier"]), (200, &json!(segment)));
    }
}

async fn texts_have_limits(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    for (field, value) in [
        ("long_description", json!("")),
        ("long_description", json!(" \n ")),
        ("long_description", json!("x".repeat(4_001))),
        ("long_description", json!("a\tb")),
        ("long_description", json!("a\r\nb")),
        ("long_description", json!(1)),
        ("supplier", json!("")),
        ("supplier", json!("  ")),
        ("supplier", json!("x".repeat(201))),
        ("supplier", json!("a\nb")),
        ("version", json!(1)),
    ] {
        let mut body = json!({});
        body[field] = value;
        fixture.put_details("A", &[], body).await.assert_problem(422, "invalid", field);
    }
    fixture.put_details("A", &[], json!([])).await.assert_problem(422, "invalid", "");
    assert_eq!(fixture.details("A").await.body["supplier"], Value::Null);
}

/// Whoever asks reads no more than [`MAX_BYTES`]; the limits of the fields have to keep every answer below it.
async fn the_longest_details_fit_into_an_answer(fixture: &ProductFixture) {
    let widest = |count: usize| "\u{1f4e6}".repeat(count);
    let sku = "%F0%9F%93%A6".repeat(64);
    fixture.stock(&sku, 5).await;
    for _ in 0..10 {
        let body = json!({"delta": 1, "reason": widest(200), "reference": widest(200)});
        assert_eq!(fixture.adjust(&sku, &[], body).await.status, 200);
    }
    let texts = json!({"long_description": widest(4_000), "supplier": widest(200)});
    let answer = fixture.put_details(&sku, &[], texts).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let length = answer.body.to_string().len();
    assert!((30_000..MAX_BYTES).contains(&length), "{length}");
}

async fn texts_are_set_once_per_key(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let key = [("idempotency-key", "k1")];
    let first = fixture.put_details("A", &key, json!({"supplier": "First"})).await;
    fixture.put_details("A", &[], json!({"supplier": "Second"})).await;
    let again = fixture.put_details("A", &key, json!({"supplier": "First"})).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(fixture.details("A").await.body["supplier"], "Second");
    let other = fixture.put_details("A", &key, json!({"supplier": "Third"})).await;
    other.assert_problem(422, "invalid", "Idempotency-Key");
}

/// Nothing is woken: there is nothing to send.
async fn the_relay_sleeps_on(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let woken = async || {
        let notified = fixture.inventory.outbox.notify().notified();
        tokio::time::timeout(Duration::from_millis(50), notified).await.is_ok()
    };
    assert!(woken().await);
    fixture.put_details("A", &[], json!({"supplier": "Somebody"})).await;
    assert!(!woken().await);
}

on_every_database!(&ProductFixture::new =>
    starts_without_texts_and_adjustments,
    keeps_texts_without_a_version_or_an_event,
    lists_the_newest_ten_adjustments,
    are_of_products_that_are_there,
    name_any_sku,
    texts_have_limits,
    the_longest_details_fit_into_an_answer,
    texts_are_set_once_per_key,
    the_relay_sleeps_on,
);
