use std::time::Duration;

use actix_web::http::header::{RETRY_AFTER, SET_COOKIE};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::super::Role;
use super::PASSWORD;
use crate::api::tests::AdminFixture;

on_every_database!(AdminFixture::new =>
    a_session_begins_and_ends,
    a_session_ends_when_it_is_idle,
    a_session_is_good_though_its_use_can_not_be_noted,
    a_session_ends_however_much_it_is_used,
    failures_are_slowed_down_by_name,
    failures_are_slowed_down_by_address,
    a_new_password_ends_other_sessions,
);

async fn a_session_begins_and_ends(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    let wrong = fixture.try_sign_in("viewer", "wrong password").await;
    let nobody = fixture.try_sign_in("nobody", PASSWORD).await;
    wrong.is_problem(401, "");
    assert_eq!(wrong.body, nobody.body, "it isn't told whether there is such a name");
    let begun = fixture.try_sign_in("viewer", PASSWORD).await;
    assert_eq!((begun.status, &begun.body["role"]), (200, &json!("viewer")));
    let set = begun.header(SET_COOKIE).to_owned();
    assert!(set.starts_with("product-service-session="), "{set}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=86400"] {
        assert!(set.contains(part), "{part}: {set}");
    }
    let cookie = begun.cookie();
    let who = fixture.with_cookie("GET", "/session", &cookie, json!(null)).await;
    assert_eq!((&who.body["name"], &who.body["via"]), (&json!("viewer"), &json!("session")));
    let ended = fixture.with_cookie("DELETE", "/session", &cookie, json!(null)).await;
    assert_eq!(ended.status, 204);
    assert!(ended.header(SET_COOKIE).contains("Max-Age=0"));
    fixture.with_cookie("GET", "/session", &cookie, json!(null)).await.is_problem(401, "");
    let actions: Vec<String> =
        fixture.audit().await.into_iter().map(|(_, action)| action).collect();
    let expected =
        ["operator.add", "session.refused", "session.refused", "session.begin", "session.end"];
    assert_eq!(actions, expected);
}

async fn a_session_ends_when_it_is_idle(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    let cookie = fixture.sign_in("viewer").await;
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(119 * 60));
        let who = fixture.with_cookie("GET", "/session", &cookie, json!(null)).await;
        assert_eq!(who.status, 200, "each use counts");
    }
    // What an open page asks for by itself is no use.
    fixture.clock.advance(Duration::from_secs(61 * 60));
    let live = super::request("GET", "/overview")
        .insert_header(("cookie", cookie.as_str()))
        .insert_header(("sec-fetch-dest", "empty"));
    assert_eq!(fixture.call(live).await.status, 200);
    fixture.clock.advance(Duration::from_secs(60 * 60));
    fixture.with_cookie("GET", "/session", &cookie, json!(null)).await.is_problem(401, "");
}

async fn a_session_is_good_though_its_use_can_not_be_noted(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    let cookie = fixture.sign_in("viewer").await;
    fixture.refuse_updates("operator_session").await;
    fixture.clock.advance(Duration::from_secs(90 * 60));
    let who = fixture.with_cookie("GET", "/session", &cookie, json!(null)).await;
    assert_eq!(who.status, 200);
    // Since it was not noted, the session has been idle all the time.
    fixture.clock.advance(Duration::from_secs(31 * 60));
    fixture.with_cookie("GET", "/session", &cookie, json!(null)).await.is_problem(401, "");
}

async fn a_session_ends_however_much_it_is_used(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    let cookie = fixture.sign_in("viewer").await;
    for _ in 0..23 {
        fixture.clock.advance(Duration::from_secs(60 * 60));
        let who = fixture.with_cookie("GET", "/session", &cookie, json!(null)).await;
        assert_eq!(who.status, 200);
    }
    fixture.clock.advance(Duration::from_secs(60 * 60));
    fixture.with_cookie("GET", "/session", &cookie, json!(null)).await.is_problem(401, "");
}

async fn failures_are_slowed_down_by_name(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    for _ in 0..5 {
        fixture.try_sign_in("viewer", "wrong password").await.is_problem(401, "");
    }
    // Not even the right one is looked at now.
    let refused = fixture.try_sign_in("viewer", PASSWORD).await;
    refused.is_problem(429, "");
    assert_eq!(refused.header(RETRY_AFTER), "900");
    fixture.clock.advance(Duration::from_secs(15 * 60));
    fixture.sign_in("viewer").await;
    // A sign-in that succeeds clears the count.
    for _ in 0..4 {
        fixture.try_sign_in("viewer", "wrong password").await.is_problem(401, "");
    }
    fixture.sign_in("viewer").await;
    fixture.try_sign_in("viewer", "wrong password").await.is_problem(401, "");
    fixture.sign_in("viewer").await;
}

async fn failures_are_slowed_down_by_address(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Viewer).await;
    for n in 0..20 {
        fixture.try_sign_in(&format!("guess-{n}"), PASSWORD).await.is_problem(401, "");
    }
    fixture.try_sign_in("viewer", PASSWORD).await.is_problem(429, "");
}

async fn a_new_password_ends_other_sessions(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    fixture.operator(Role::Viewer).await;
    let (mine, other) = (fixture.sign_in("viewer").await, fixture.sign_in("viewer").await);
    let change = |old: &str, new: &str| json!({ "old_password": old, "new_password": new });
    let path = "/session/password";
    let wrong = change("wrong password", "another password");
    fixture.with_cookie("PUT", path, &mine, wrong).await.is_problem(422, "old_password");
    let short = change(PASSWORD, "short");
    fixture.with_cookie("PUT", path, &mine, short).await.is_problem(422, "new_password");
    let good = change(PASSWORD, "another password");
    assert_eq!(fixture.with_cookie("PUT", path, &mine, good.clone()).await.status, 204);
    assert_eq!(fixture.with_cookie("GET", "/session", &mine, json!(null)).await.status, 200);
    fixture.with_cookie("GET", "/session", &other, json!(null)).await.is_problem(401, "");
    fixture.try_sign_in("viewer", PASSWORD).await.is_problem(401, "");
    assert_eq!(fixture.try_sign_in("viewer", "another password").await.status, 200);
    // A script has no password to change.
    let by_script = super::bearer("PUT", path, "s3cret").set_json(good);
    fixture.call(by_script).await.is_problem(409, "");
}
