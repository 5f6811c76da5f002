use common::clock::Timestamp;
use engine::restored::found;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_database_that_is_behind_is_shown_and_mended,
    one_that_is_not_behind_is_left_alone,
    bad_requests_are_refused_by_name,
);

async fn a_database_that_is_behind_is_shown_and_mended(fixture: AdminFixture) {
    let (service, since) = ("product-service", Timestamp::from_micros(1_700_000_000_000_000));
    let now = fixture.env.now();
    assert!(fixture.write(move |conn| found(conn, now, service, Some(since), "it shows")).await);
    let status = fixture.get("/restored").await.body;
    assert_eq!((&status["behind"], &status["side"]), (&json!(true), &json!("owner")), "{status}");
    assert_eq!(status["newest"]["since"], "2023-11-14T22:13:20.000000Z", "{status}");
    let alerts = fixture.get("/alerts?state=open&kind=database_behind").await;
    assert_eq!(alerts.items("error"), ["it shows"]);
    let begun = fixture.post("/restored", json!({ "reason": "the backup of Monday" })).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(begun.body["state"], "running");
    let job = fixture.get("/resyncs/1").await.body;
    assert_eq!(
        (&job["kind"], &job["reason"]),
        (&json!("restored"), &json!("the backup of Monday"))
    );
    let alerts = fixture.get("/alerts?state=open&kind=database_behind").await;
    assert!(alerts.items("error").is_empty());
    assert_eq!(fixture.get("/audit").await.items("action"), ["restored.start"]);
    let again = fixture.post("/restored", json!({ "force": true })).await;
    assert_eq!(again.status, 409, "{again:?}");
}

async fn one_that_is_not_behind_is_left_alone(fixture: AdminFixture) {
    let status = fixture.get("/restored").await.body;
    assert_eq!((&status["behind"], &status["newest"]), (&json!(false), &json!(null)), "{status}");
    let refused = fixture.post("/restored", json!({})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body["type"].as_str().unwrap().ends_with("not-behind"), "{refused:?}");
    let forced = fixture.post("/restored", json!({ "force": true })).await;
    assert_eq!(forced.status, 201, "{forced:?}");
}

async fn bad_requests_are_refused_by_name(fixture: AdminFixture) {
    for (body, field) in [
        (json!({ "reason": " " }), "reason"),
        (json!({ "force": "yes" }), "force"),
        (json!({ "epoch": 7 }), "epoch"),
    ] {
        let refused = fixture.post("/restored", body).await;
        assert_eq!((refused.status, &refused.body["field"]), (422, &json!(field)), "{refused:?}");
    }
    let kind = json!({ "kind": "restored", "selection": { "where": {} } });
    let refused = fixture.post("/resyncs", kind).await;
    assert_eq!((refused.status, &refused.body["field"]), (422, &json!("kind")), "{refused:?}");
}
