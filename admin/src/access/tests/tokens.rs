use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::bearer;
use crate::api::tests::{Answered, Bench};

on_every_database!(Bench::new =>
    a_token_may_what_it_was_made_for,
    a_token_ends,
    a_token_is_shown_once,
    bad_tokens_are_not_made,
);

async fn make(bench: &Bench, body: Value) -> Answered {
    bench.call(bearer("POST", "/tokens", "s3cret").set_json(body)).await
}

fn secret(made: &Answered) -> String {
    assert_eq!(made.status, 201, "{made:?}");
    made.body["secret"].as_str().unwrap().to_owned()
}

async fn a_token_may_what_it_was_made_for(bench: Bench) {
    let bench = bench.guarded("s3cret");
    let body = json!({ "name": "dashboard", "role": "viewer", "areas": ["events", "overview"] });
    let token = secret(&make(&bench, body).await);
    assert_eq!(bench.call(bearer("GET", "/events", &token)).await.status, 200);
    assert_eq!(bench.call(bearer("GET", "/overview", &token)).await.status, 200);
    let refused = bench.call(bearer("GET", "/alerts", &token)).await;
    refused.is_problem(403, "");
    assert!(refused.body["detail"].as_str().unwrap().contains("alerts"), "{refused:?}");
    let refused = bench.call(bearer("PUT", "/quarantine/A", &token)).await;
    refused.is_problem(403, "");
    let who = bench.call(bearer("GET", "/session", &token)).await;
    assert_eq!((&who.body["name"], &who.body["via"]), (&json!("token dashboard"), &json!("token")));
    // The settings' token needs no database row, and a wrong one is no session either.
    assert_eq!(bench.call(bearer("GET", "/alerts", "s3cret")).await.status, 200);
    bench.call(bearer("GET", "/alerts", "guessed")).await.is_problem(401, "");
}

async fn a_token_ends(bench: Bench) {
    let bench = bench.guarded("s3cret");
    let end = bench.env.now().after(Duration::from_secs(60));
    let body = json!({ "name": "an hour", "role": "operator", "expires_at": end });
    let token = secret(&make(&bench, body).await);
    assert_eq!(bench.call(bearer("GET", "/audit", &token)).await.status, 200);
    bench.clock.advance(Duration::from_secs(60));
    bench.call(bearer("GET", "/audit", &token)).await.is_problem(401, "");
    let made = make(&bench, json!({ "name": "script", "role": "operator" })).await;
    let (token, seq) = (secret(&made), made.body["seq"].as_str().unwrap().to_owned());
    assert_eq!(bench.call(bearer("GET", "/audit", &token)).await.status, 200);
    let revoked = bench.call(bearer("DELETE", &format!("/tokens/{seq}"), "s3cret")).await;
    assert_eq!((revoked.status, &revoked.body["revoked_by"]), (200, &json!("admin")));
    bench.call(bearer("GET", "/audit", &token)).await.is_problem(401, "");
    let again = bench.call(bearer("DELETE", &format!("/tokens/{seq}"), "s3cret")).await;
    assert_eq!(again.body, revoked.body);
    bench.call(bearer("DELETE", "/tokens/77", "s3cret")).await.is_problem(404, "");
    let deeds: Vec<String> = bench.audit().await.into_iter().map(|(_, action)| action).collect();
    assert_eq!(deeds, ["token.add", "token.add", "token.revoke"]);
}

async fn a_token_is_shown_once(bench: Bench) {
    let bench = bench.guarded("s3cret");
    let token = secret(&make(&bench, json!({ "name": "script", "role": "viewer" })).await);
    assert!(token.starts_with("stockloop_") && token.len() > 50, "{token}");
    let list = bench.call(bearer("GET", "/tokens", "s3cret")).await;
    assert!(!list.body.to_string().contains(&token));
    assert_eq!(list.items("name"), ["script"]);
    let audit = bench.call(bearer("GET", "/audit", "s3cret")).await;
    assert!(!audit.body.to_string().contains(&token));
}

async fn bad_tokens_are_not_made(bench: Bench) {
    let bench = bench.guarded("s3cret");
    let past = bench.env.now();
    for (body, field) in [
        (json!({ "name": " ", "role": "viewer" }), "name"),
        (json!({ "name": "x".repeat(101), "role": "viewer" }), "name"),
        (json!({ "name": "x", "role": "root" }), "role"),
        (json!({ "name": "x", "role": "viewer", "areas": ["moon"] }), "areas[0]"),
        (json!({ "name": "x", "role": "viewer", "expires_at": past }), "expires_at"),
    ] {
        make(&bench, body).await.is_problem(422, field);
    }
}
