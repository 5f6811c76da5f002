//! `Idempotency-Key` on the inventory's writes.

use common::db::{Conn, DbError};
use common::on;
use common::schema::idempotency;
use diesel::prelude::*;
use serde_json::json;
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, START, content, delta, line};

const KEY: [(&str, &str); 1] = [("idempotency-key", "k1")];

const REPLAYED: &str = "idempotent-replayed";

#[track_caller]
fn assert_same(first: &TestResponse, second: &TestResponse) {
    assert_eq!(first.status, second.status);
    assert_eq!(first.body, second.body);
    for header in ["etag", "location", "content-type"] {
        assert_eq!(first.header(header), second.header(header));
    }
    assert_eq!((first.header(REPLAYED), second.header(REPLAYED)), ("", "true"));
}

async fn gives_the_same_answer_and_no_second_change(fixture: &ProductFixture) {
    let put = async || fixture.put("A", &KEY, content(10)).await;
    let (first, second) = (put().await, put().await);
    assert_eq!(first.status, 201);
    assert_same(&first, &second);

    let adjust = async || fixture.adjust("A", &KEY, delta(-1)).await;
    let (first, second) = (adjust().await, adjust().await);
    assert_eq!(first.body["quantity"], 9);
    assert_same(&first, &second);

    let batch = async || fixture.batch(&KEY, json!([line("A", -1), line("B", 1)])).await;
    let (first, second) = (batch().await, batch().await);
    assert_eq!(first.body["accepted"], 1);
    assert_same(&first, &second);

    let delete = async || fixture.delete("A", &KEY).await;
    let (first, second) = (delete().await, delete().await);
    assert_eq!(first.status, 204);
    assert_same(&first, &second);
    assert_eq!(fixture.events().await.len(), 4);
}

async fn refuses_another_body(fixture: &ProductFixture) {
    fixture.put("A", &KEY, content(10)).await;
    let other = fixture.put("A", &KEY, content(11)).await;
    other.assert_problem(422, "invalid", "Idempotency-Key");
    assert_eq!(fixture.rows().await[0].quantity, 10);
}

async fn a_refused_request_is_decided_anew(fixture: &ProductFixture) {
    let missing = fixture.adjust("A", &KEY, delta(-1)).await;
    missing.assert_problem(404, "not-found", "sku");
    fixture.stock("A", 5).await;
    let done = fixture.adjust("A", &KEY, delta(-1)).await;
    assert_eq!((done.status.as_u16(), &done.body["quantity"]), (200, &json!(4)));
    assert_same(&done, &fixture.adjust("A", &KEY, delta(-1)).await);

    let short = [("idempotency-key", "k2")];
    let refused = fixture.adjust("A", &short, delta(-6)).await;
    refused.assert_problem(409, "insufficient-stock", "delta");
    assert!(kept_routes(fixture, "k2").await.is_empty());
    fixture.stock("A", 50).await;
    let done = fixture.adjust("A", &short, delta(-6)).await;
    assert_eq!((done.status.as_u16(), &done.body["quantity"]), (200, &json!(44)));
    assert_same(&done, &fixture.adjust("A", &short, delta(-6)).await);
    assert_eq!(fixture.rows().await[0].quantity, 44);
    assert_eq!(kept_routes(fixture, "k2").await, ["POST /api/v1/inventory/A/adjustments"]);
}

async fn a_refused_precondition_can_be_put_right(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let put = async |tag: &str| {
        let headers = [("idempotency-key", "m-1"), ("if-match", tag)];
        fixture.put("A", &headers, content(7)).await
    };
    put("\"9\"").await.assert_problem(412, "precondition-failed", "");
    let done = put("\"1\"").await;
    assert_eq!((done.status.as_u16(), done.header("etag")), (200, "\"2\""));
    assert_same(&done, &put("\"1\"").await);
    assert_eq!(fixture.rows().await[0].version, 2);
}

async fn is_looked_up_before_preconditions(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let headers = [("idempotency-key", "k"), ("if-match", "\"1\"")];
    let first = fixture.adjust("A", &headers, delta(1)).await;
    assert_eq!(first.status, 200);
    assert_same(&first, &fixture.adjust("A", &headers, delta(1)).await);
}

async fn refuses_other_preconditions(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let adjust = async |conditions: &[(&str, &str)]| {
        let headers = [&[("idempotency-key", "k")][..], conditions].concat();
        fixture.adjust("A", &headers, delta(1)).await
    };
    let first = adjust(&[("if-match", "\"1\", \"7\"")]).await;
    assert_eq!(first.status, 200);
    assert_same(&first, &adjust(&[("if-match", "\"1\""), ("if-match", "\"7\"")]).await);
    for other in [
        &[][..],
        &[("if-match", "\"2\"")],
        &[("if-match", "*")],
        &[("if-none-match", "\"1\", \"7\"")],
        &[("if-match", "\"1\", \"7\""), ("if-none-match", "\"9\"")],
    ] {
        adjust(other).await.assert_problem(422, "invalid", "Idempotency-Key");
    }
    assert_eq!(fixture.rows().await[0].quantity, 6);
}

async fn an_address_is_one_however_it_is_spelled(fixture: &ProductFixture) {
    fixture.stock("I%2FJ", 100).await;
    let first = fixture.adjust("I%2FJ", &KEY, delta(-1)).await;
    assert_eq!(first.body["quantity"], 99);
    for spelling in ["I%2fJ", "%49%2FJ", "%49%2f%4a"] {
        assert_same(&first, &fixture.adjust(spelling, &KEY, delta(-1)).await);
    }
    fixture.adjust("%49%2fJ", &KEY, delta(-2)).await.assert_problem(
        422,
        "invalid",
        "Idempotency-Key",
    );
    assert_eq!(fixture.rows().await[0].quantity, 99);

    // The SKU `I%2FJ`, another product than `I/J`.
    fixture.stock("I%252FJ", 10).await;
    assert_eq!(fixture.adjust("I%252FJ", &KEY, delta(-1)).await.body["quantity"], 9);
}

/// While an upgrade goes on, and a day longer, there are rows that the last release wrote.
async fn a_refusal_that_was_kept_is_forgotten(fixture: &ProductFixture) {
    let work = |conn: &mut Conn| {
        let row = (
            idempotency::principal.eq("anonymous"),
            idempotency::route.eq("PUT /api/v1/inventory/A"),
            idempotency::key.eq("k1"),
            idempotency::body_hash.eq("00"),
            idempotency::status.eq(412),
            idempotency::body.eq("{}"),
            idempotency::created_us.eq(START),
        );
        on!(conn, c => diesel::insert_into(idempotency::table).values(row).execute(c))
            .map_err(DbError::from)
    };
    fixture.inventory.db.write(work).await.unwrap();
    let first = fixture.put("A", &KEY, content(1)).await;
    assert_eq!(first.status, 201);
    assert_same(&first, &fixture.put("A", &KEY, content(1)).await);
}

/// The addresses that an answer is kept for under `key`.
async fn kept_routes(fixture: &ProductFixture, key: &'static str) -> Vec<String> {
    let query = move |conn: &mut Conn| {
        on!(conn, c => idempotency::table
            .filter(idempotency::key.eq(key))
            .select(idempotency::route)
            .load::<String>(c))
        .map_err(DbError::from)
    };
    fixture.inventory.db.read(query).await.unwrap()
}

async fn holds_for_one_address_only(fixture: &ProductFixture) {
    assert_eq!(fixture.put("A", &KEY, content(1)).await.status, 201);
    assert_eq!(fixture.put("B", &KEY, content(1)).await.status, 201);
    let long = "x".repeat(256);
    for bad in ["", &long] {
        let answer = fixture.put("A", &[("idempotency-key", bad)], content(1)).await;
        answer.assert_problem(422, "invalid", "Idempotency-Key");
    }
}

async fn used_many_times_at_once_changes_once(fixture: &ProductFixture) {
    fixture.stock("A", 100).await;
    for round in 0..10_i64 {
        let key = format!("r{round}");
        let headers = [("idempotency-key", key.as_str())];
        let (a, b, c) = tokio::join!(
            fixture.adjust("A", &headers, delta(-1)),
            fixture.adjust("A", &headers, delta(-1)),
            fixture.adjust("%41", &headers, delta(-1)),
        );
        for answer in [a, b, c] {
            assert_eq!(answer.body["quantity"], 99 - round, "{answer:?}");
        }
        assert_eq!(fixture.rows().await[0].quantity, 99 - round);
    }
}

on_every_database!(&ProductFixture::new =>
    gives_the_same_answer_and_no_second_change,
    refuses_another_body,
    a_refused_request_is_decided_anew,
    a_refused_precondition_can_be_put_right,
    is_looked_up_before_preconditions,
    refuses_other_preconditions,
    an_address_is_one_however_it_is_spelled,
    a_refusal_that_was_kept_is_forgotten,
    holds_for_one_address_only,
    used_many_times_at_once_changes_once,
);
