use actix_web::http::header::LOCATION;
use actix_web::test::TestRequest;
use common::on;
use common::schema::verification;
use diesel::prelude::*;
use engine::verify::{Finding, State};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_verification_is_put_down_and_cancelled,
    one_at_a_time_and_people_go_before_the_schedule,
    what_was_found_is_counted_and_listed,
    the_latest_is_the_newest_of_all_keys_with_a_result,
    bad_verifications_are_refused_by_name,
    a_repeated_request_makes_one_verification,
    who_owns_nothing_names_the_owner,
);

impl AdminFixture {
    async fn change_verification(&self, seq: i64, state: State, keys_of: Option<i64>) {
        self.write(move |conn| {
            let change = (verification::state.eq(state), verification::keys_of.eq(keys_of));
            on!(conn, c => diesel::update(verification::table.find(seq)).set(change).execute(c))
        })
        .await;
    }

    async fn audited(&self) -> Vec<String> {
        let mut actions = self.get("/audit").await.items("action");
        actions.reverse();
        actions
    }
}

async fn a_verification_is_put_down_and_cancelled(fixture: AdminFixture) {
    let created = fixture.post("/verifications", json!({ "share": 0.25 })).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header(LOCATION), "/api/admin/v1/verifications/1");
    let expected = json!({
        "seq": "1", "consumer": "order-service", "keys_of": null, "share": 0.25, "state": "waiting",
        "cursor": null, "keys": 0, "differences": 0, "waiting": 0, "cut": false, "reason": null,
        "created_at": fixture.env.now(), "created_by": "anonymous", "created_via": "open",
        "started_at": null, "compared_at": null, "answered_at": null, "ended_at": null,
        "ended_by": null,
    });
    assert_eq!(created.body, expected);
    let mut shown = fixture.get("/verifications/1").await.body;
    let findings = shown.as_object_mut().unwrap().remove("findings").unwrap();
    assert_eq!(findings.as_object().unwrap().values().filter_map(Value::as_i64).sum::<i64>(), 0);
    assert_eq!(shown, expected);
    let cancelled = fixture.post("/verifications/1/cancel", json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));
    assert_eq!(cancelled.body["ended_by"], "anonymous");
    let again = fixture.post("/verifications/1/cancel", json!({})).await;
    again.is_problem(409, "");
    assert_eq!(again.body["type"], "urn:stockloop:problem:verification-ended");
    fixture.post("/verifications/99/cancel", json!({})).await.is_problem(404, "");
    assert_eq!(fixture.audited().await, ["verification.create", "verification.cancel"]);
}

async fn one_at_a_time_and_people_go_before_the_schedule(fixture: AdminFixture) {
    let verifier = fixture.engine.verifier.clone().unwrap();
    let scheduled = verifier.schedule("order-service", 100).await.unwrap().unwrap();
    let asked = fixture.post("/verifications", json!({})).await;
    assert_eq!(asked.status, 201, "{asked:?}");
    let gave_way = fixture.get(&format!("/verifications/{scheduled}")).await.body;
    assert_eq!(
        (&gave_way["state"], &gave_way["ended_by"]),
        (&json!("cancelled"), &json!("anonymous"))
    );
    let refused = fixture.post("/verifications", json!({})).await;
    refused.is_problem(409, "");
    assert_eq!(refused.body["type"], "urn:stockloop:problem:verification-under-way");
    let (detail, seq) = (&refused.body["detail"], &asked.body["seq"]);
    assert!(detail.as_str().unwrap().contains(&format!("verification {}", seq.as_str().unwrap())));
    assert_eq!(fixture.get("/verifications").await.items("seq").len(), 2);
    let actions = ["verification.cancel", "verification.create"];
    assert_eq!(fixture.audited().await, actions, "a refusal leaves nothing behind");
}

async fn what_was_found_is_counted_and_listed(fixture: AdminFixture) {
    let found = [
        ("A", Finding::Missing),
        ("B", Finding::Older),
        ("C", Finding::Older),
        ("a", Finding::Content),
        ("b", Finding::Waiting),
    ];
    let seq = fixture.verified(State::Different, &found).await;
    let shown = fixture.get(&format!("/verifications/{seq}")).await.body;
    let findings = json!({
        "moving": 0, "waiting": 1, "missing": 1, "unknown": 0, "older": 2, "newer": 0, "content": 1,
    });
    assert_eq!(shown["findings"], findings);
    assert_eq!((&shown["differences"], &shown["waiting"]), (&json!(4), &json!(1)));
    let path = format!("/verifications/{seq}/differences");
    let page = fixture.get(&format!("{path}?limit=2")).await;
    assert_eq!((page.items("key"), &page.body["next"]), (of(&["A", "B"]), &json!("B")));
    let expected = json!({
        "key": "A", "consumer": "order-service", "kind": "missing", "owner_version": 5,
        "owner_removed": false, "copy_epoch": null, "copy_version": null, "copy_removed": null,
        "event_id": null, "found_at": fixture.env.now(),
    });
    assert_eq!(page.body["items"][0], expected);
    assert_eq!(page.body["items"][1]["copy_version"], 4);
    let walked = fixture.walk(&format!("{path}?limit=3"), "key").await;
    assert_eq!(walked, (of(&["A", "B", "C", "a"]), 2), "in bytewise order");
    assert_eq!(fixture.get(&format!("{path}?waiting=true")).await.items("key"), ["b"]);
    assert_eq!(fixture.get("/verifications/latest/differences").await.items("key").len(), 4);
}

fn of(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

async fn the_latest_is_the_newest_of_all_keys_with_a_result(fixture: AdminFixture) {
    let none = fixture.get("/verifications/latest").await;
    none.is_problem(404, "");
    assert!(none.body["detail"].as_str().unwrap().contains("start one"));
    let first = fixture.verified(State::Equal, &[]).await;
    let of_few = fixture.verified(State::Equal, &[]).await;
    fixture.change_verification(of_few, State::Equal, Some(first)).await;
    let cancelled = fixture.verified(State::Cancelled, &[]).await;
    assert_eq!(fixture.post("/verifications", json!({})).await.status, 201);
    let latest = fixture.get("/verifications/latest").await.body;
    assert_eq!(latest["seq"], first.to_string());
    fixture.change_verification(cancelled, State::Unknown, None).await;
    assert_eq!(fixture.get("/verifications/latest").await.body["seq"], cancelled.to_string());
    assert_eq!(fixture.walk("/verifications?limit=3", "seq").await.0.len(), 4);
    assert_eq!(fixture.get("/verifications?consumer=nobody").await.body["items"], json!([]));
    assert_eq!(fixture.get("/verifications?consumer=order-service").await.items("seq").len(), 4);
}

async fn bad_verifications_are_refused_by_name(fixture: AdminFixture) {
    for (body, field) in [
        (json!({ "consumer": "billing" }), "consumer"),
        (json!({ "share": 0 }), "share"),
        (json!({ "share": 0.0009 }), "share"),
        (json!({ "share": 1.01 }), "share"),
    ] {
        let refused = fixture.post("/verifications", body).await;
        refused.is_problem(422, field);
    }
    let refused = fixture.post("/verifications", json!({ "consumer": "billing" })).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("order-service"), "{refused:?}");
    assert_eq!(fixture.post("/verifications", json!({ "odd": 1 })).await.status, 422);
    fixture.get("/verifications/newest").await.is_problem(422, "seq");
    fixture.get("/verifications/7").await.is_problem(404, "");
    fixture.get("/verifications/7/differences").await.is_problem(404, "");
    fixture.get("/verifications?odd=1").await.is_problem(422, "odd");
    fixture.get("/verifications?after=x").await.is_problem(422, "after");
    fixture.get("/verifications/7/differences?waiting=perhaps").await.is_problem(422, "waiting");
    fixture.get("/verifications/7/differences?after=%00").await.is_problem(422, "after");
    fixture.post("/verifications/latest/cancel", json!({})).await.is_problem(422, "seq");
}

async fn a_repeated_request_makes_one_verification(fixture: AdminFixture) {
    let ask = || {
        TestRequest::post()
            .uri("/api/admin/v1/verifications")
            .insert_header(("idempotency-key", "nightly"))
            .set_json(json!({}))
    };
    let first = fixture.call(ask()).await;
    let again = fixture.call(ask()).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    assert_eq!(fixture.get("/verifications").await.items("seq"), ["1"]);
}

async fn who_owns_nothing_names_the_owner(fixture: AdminFixture) {
    let fixture = fixture.owning_nothing();
    for path in [
        "/verifications",
        "/verifications/1",
        "/verifications/latest",
        "/verifications/1/differences",
        "/resyncs",
        "/resyncs/1",
        "/resyncs/1/skipped",
        "/verifications/export?format=csv",
        "/resyncs/export?format=csv",
        "/bootstraps/export?format=csv",
    ] {
        let refused = fixture.get(path).await;
        refused.is_problem(404, "");
        assert!(refused.body["detail"].as_str().unwrap().contains("ask order-service"), "{path}");
    }
    fixture.post("/verifications", json!({})).await.is_problem(404, "");
    let job = json!({ "kind": "resync", "selection": { "keys": ["A"] } });
    fixture.post("/resyncs", job).await.is_problem(404, "");
    fixture.post("/resyncs/1/cancel", json!({})).await.is_problem(404, "");
}
