use std::time::Duration;

use actix_web::test::TestRequest;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    a_retry_raises_the_limit,
    a_retry_needs_no_body,
    a_resolution_says_who_and_why,
    only_exhausted_events_wait_for_a_person,
    bad_bodies_change_nothing,
    a_repeated_request_acts_once,
);

async fn a_retry_raises_the_limit(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Resolved).await;
    let body = json!({ "attempts": 3, "reason": "the copy is back" });
    let retried = fixture.post(&format!("/events/{id}/retry"), body).await;
    assert_eq!(retried.status, 200, "{retried:?}");
    assert_eq!(retried.body["status"], "PENDING");
    assert_eq!(retried.body["attempt"], 5);
    assert_eq!(retried.body["attempt_limit"], 8);
    assert_eq!(retried.body["resolved_at"], json!(null));
    assert_eq!(retried.body["last_error"], json!(null));
    let line = &retried.body["history"][0];
    assert_eq!(line["outcome"], "RETRIED");
    assert_eq!(line["by"], "anonymous");
    assert_eq!(line["reason"], "the copy is back");
    let woken =
        tokio::time::timeout(Duration::from_secs(5), fixture.outbox.notify().notified()).await;
    assert!(woken.is_ok(), "the relay is woken");
}

async fn a_retry_needs_no_body(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Exhausted).await;
    let uri = format!("/api/admin/v1/events/{id}/retry");
    let retried = fixture.call(TestRequest::post().uri(&uri)).await;
    assert_eq!(retried.status, 200, "{retried:?}");
    assert_eq!(retried.body["attempt_limit"], 10);
}

async fn a_resolution_says_who_and_why(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Exhausted).await;
    let resolved = fixture
        .post(&format!("/events/{id}/resolve"), json!({ "reason": "corrected by hand" }))
        .await;
    assert_eq!(resolved.status, 200, "{resolved:?}");
    assert_eq!(resolved.body["status"], "EXHAUSTED");
    assert_eq!(resolved.body["resolved_at"], fixture.env.now().to_string());
    let line = &resolved.body["history"][0];
    assert_eq!((&line["outcome"], &line["by"]), (&json!("RESOLVED"), &json!("anonymous")));
    assert_eq!(line["reason"], "corrected by hand");
}

async fn only_exhausted_events_wait_for_a_person(fixture: AdminFixture) {
    for (is, status) in [(Is::Pending, "PENDING"), (Is::Sent, "SENT"), (Is::Processed, "PROCESSED")]
    {
        let id = fixture.event("A", 1, is).await;
        for (action, body) in [("retry", json!({})), ("resolve", json!({ "reason": "x" }))] {
            let refused = fixture.post(&format!("/events/{id}/{action}"), body).await;
            refused.is_problem(409, "");
            assert_eq!(refused.body["type"], "urn:stockloop:problem:not-exhausted");
            assert!(refused.body["detail"].as_str().unwrap().contains(status), "{refused:?}");
        }
    }
    let unknown = "/events/019b8f00-0000-7000-8000-000000000000";
    fixture.post(&format!("{unknown}/retry"), json!({})).await.is_problem(404, "");
    fixture.post(&format!("{unknown}/resolve"), json!({ "reason": "x" })).await.is_problem(404, "");
    fixture.post("/events/7/retry", json!({})).await.is_problem(422, "id");
}

async fn bad_bodies_change_nothing(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Exhausted).await;
    let (retry, resolve) = (format!("/events/{id}/retry"), format!("/events/{id}/resolve"));
    for (path, body, field) in [
        (&retry, json!({ "attempts": 0 }), "attempts"),
        (&retry, json!({ "attempts": 101 }), "attempts"),
        (&retry, json!({ "attempts": "three" }), "attempts"),
        (&retry, json!({ "attempts": 4_294_967_296_u64 }), "attempts"),
        (&retry, json!({ "reason": "" }), "reason"),
        (&retry, json!({ "force": true }), "force"),
        (&resolve, json!({ "reason": " " }), "reason"),
        (&resolve, json!({ "reason": "x".repeat(501) }), "reason"),
        (&resolve, json!({}), "reason"),
    ] {
        fixture.post(path, body).await.is_problem(422, field);
    }
    let uri = format!("/api/admin/v1{retry}");
    let text = TestRequest::post().uri(&uri).set_payload("attempts=3");
    fixture.call(text).await.is_problem(415, "");
    let broken = TestRequest::post()
        .uri(&uri)
        .insert_header(("content-type", "application/json"))
        .set_payload("{");
    fixture.call(broken).await.is_problem(400, "");
    let event = fixture.get(&format!("/events/{id}")).await.body;
    assert_eq!((&event["status"], &event["history"]), (&json!("EXHAUSTED"), &json!([])));
}

async fn a_repeated_request_acts_once(fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Exhausted).await;
    let uri = format!("/api/admin/v1/events/{id}/retry");
    let request = || {
        TestRequest::post()
            .uri(&uri)
            .insert_header(("idempotency-key", "k1"))
            .set_json(json!({ "attempts": 1 }))
    };
    let (first, second) = (fixture.call(request()).await, fixture.call(request()).await);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);
}
