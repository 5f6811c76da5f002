//! `Idempotency-Key` on the inventory's writes.

use serde_json::json;
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, content, delta, line};

const KEY: [(&str, &str); 1] = [("idempotency-key", "k1")];

#[track_caller]
fn assert_same(first: &TestResponse, second: &TestResponse) {
    assert_eq!(first.status, second.status);
    assert_eq!(first.body, second.body);
    for header in ["etag", "location", "content-type"] {
        assert_eq!(first.header(header), second.header(header));
    }
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

async fn keeps_refusals_too(fixture: &ProductFixture) {
    let missing = fixture.adjust("A", &KEY, delta(-1)).await;
    missing.assert_problem(404, "not-found", "sku");
    fixture.stock("A", 5).await;
    assert_same(&missing, &fixture.adjust("A", &KEY, delta(-1)).await);
    let short = [("idempotency-key", "k2")];
    let refused = fixture.adjust("A", &short, delta(-6)).await;
    refused.assert_problem(409, "insufficient-stock", "delta");
    fixture.stock("A", 50).await;
    assert_same(&refused, &fixture.adjust("A", &short, delta(-6)).await);
    assert_eq!(fixture.rows().await[0].quantity, 50);
}

async fn is_looked_up_before_preconditions(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let headers = [("idempotency-key", "k"), ("if-match", "\"1\"")];
    let first = fixture.adjust("A", &headers, delta(1)).await;
    assert_eq!(first.status, 200);
    assert_same(&first, &fixture.adjust("A", &headers, delta(1)).await);
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
            fixture.adjust("A", &headers, delta(-1)),
        );
        for answer in [a, b, c] {
            if answer.status == 409 {
                answer.assert_problem(409, "idempotency-running", "");
            } else {
                assert_eq!(answer.body["quantity"], 99 - round);
            }
        }
        assert_eq!(fixture.rows().await[0].quantity, 99 - round);
    }
}

on_every_database!(&ProductFixture::new =>
    gives_the_same_answer_and_no_second_change,
    refuses_another_body,
    keeps_refusals_too,
    is_looked_up_before_preconditions,
    holds_for_one_address_only,
    used_many_times_at_once_changes_once,
);
