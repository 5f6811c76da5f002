use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::bearer;
use crate::api::tests::{AdminFixture, ApiResponse};

on_every_database!(AdminFixture::new =>
    a_token_may_what_it_was_made_for,
    a_token_ends,
    a_token_is_shown_once,
    a_token_is_good_though_its_use_can_not_be_noted,
    bad_tokens_are_not_made,
);

async fn make(fixture: &AdminFixture, body: Value) -> ApiResponse {
    fixture.call(bearer("POST", "/tokens", "s3cret").set_json(body)).await
}

fn secret(made: &ApiResponse) -> String {
    assert_eq!(made.status, 201, "{made:?}");
    made.body["secret"].as_str().unwrap().to_owned()
}

async fn a_token_may_what_it_was_made_for(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let body = json!({ "name": "dashboard", "role": "viewer", "areas": ["events", "overview"] });
    let token = secret(&make(&fixture, body).await);
    assert_eq!(fixture.call(bearer("GET", "/events", &token)).await.status, 200);
    assert_eq!(fixture.call(bearer("GET", "/overview", &token)).await.status, 200);
    let refused = fixture.call(bearer("GET", "/alerts", &token)).await;
    refused.is_problem(403, "");
    assert!(refused.body["detail"].as_str().unwrap().contains("alerts"), "{refused:?}");
    let refused = fixture.call(bearer("PUT", "/quarantine/A", &token)).await;
    refused.is_problem(403, "");
    let who = fixture.call(bearer("GET", "/session", &token)).await;
    assert_eq!((&who.body["name"], &who.body["via"]), (&json!("token dashboard"), &json!("token")));
    // The settings' token needs no database row, and a wrong one is no session either.
    assert_eq!(fixture.call(bearer("GET", "/alerts", "s3cret")).await.status, 200);
    fixture.call(bearer("GET", "/alerts", "guessed")).await.is_problem(401, "");
}

async fn a_token_ends(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let end = fixture.env.now().after(Duration::from_secs(60));
    let body = json!({ "name": "an hour", "role": "operator", "expires_at": end });
    let token = secret(&make(&fixture, body).await);
    assert_eq!(fixture.call(bearer("GET", "/audit", &token)).await.status, 200);
    fixture.clock.advance(Duration::from_secs(60));
    fixture.call(bearer("GET", "/audit", &token)).await.is_problem(401, "");
    let made = make(&fixture, json!({ "name": "script", "role": "operator" })).await;
    let (token, seq) = (secret(&made), made.body["seq"].as_str().unwrap().to_owned());
    assert_eq!(fixture.call(bearer("GET", "/audit", &token)).await.status, 200);
    let revoked = fixture.call(bearer("DELETE", &format!("/tokens/{seq}"), "s3cret")).await;
    assert_eq!((revoked.status, &revoked.body["revoked_by"]), (200, &json!("admin")));
    fixture.call(bearer("GET", "/audit", &token)).await.is_problem(401, "");
    let again = fixture.call(bearer("DELETE", &format!("/tokens/{seq}"), "s3cret")).await;
    assert_eq!(again.body, revoked.body);
    fixture.call(bearer("DELETE", "/tokens/77", "s3cret")).await.is_problem(404, "");
    let actions: Vec<String> =
        fixture.audit().await.into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, ["token.add", "token.add", "token.revoke"]);
}

async fn a_token_is_shown_once(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let token = secret(&make(&fixture, json!({ "name": "script", "role": "viewer" })).await);
    assert!(token.starts_with("stockloop_") && token.len() > 50, "{token}");
    let list = fixture.call(bearer("GET", "/tokens", "s3cret")).await;
    assert!(!list.body.to_string().contains(&token));
    assert_eq!(list.items("name"), ["script"]);
    let audit = fixture.call(bearer("GET", "/audit", "s3cret")).await;
    assert!(!audit.body.to_string().contains(&token));
}

async fn a_token_is_good_though_its_use_can_not_be_noted(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let token = secret(&make(&fixture, json!({ "name": "script", "role": "viewer" })).await);
    assert_eq!(fixture.call(bearer("GET", "/events", &token)).await.status, 200);
    let used = async || {
        let list = fixture.call(bearer("GET", "/tokens", "s3cret")).await;
        list.body["items"][0]["used_at"].clone()
    };
    let before = used().await;
    assert!(before.is_string(), "{before}");
    fixture.refuse_updates("operator_token").await;
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(fixture.call(bearer("GET", "/events", &token)).await.status, 200);
    assert_eq!(used().await, before, "it was refused");
}

async fn bad_tokens_are_not_made(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let past = fixture.env.now();
    for (body, field) in [
        (json!({ "name": " ", "role": "viewer" }), "name"),
        (json!({ "name": "x".repeat(101), "role": "viewer" }), "name"),
        (json!({ "name": "x", "role": "root" }), "role"),
        (json!({ "name": "x", "role": "viewer", "areas": ["moon"] }), "areas[0]"),
        (json!({ "name": "x", "role": "viewer", "expires_at": past }), "expires_at"),
    ] {
        make(&fixture, body).await.is_problem(422, field);
    }
}
