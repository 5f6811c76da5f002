use std::time::Duration;

use common::http::Problem;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::super::{Role, setup};
use super::{PASSWORD, bearer};
use crate::api::tests::AdminFixture;

on_every_database!(AdminFixture::new =>
    the_first_admin_needs_the_one_time_token,
    a_one_time_token_holds_a_day,
    admins_make_and_change_others,
    the_last_admin_stays,
    names_and_passwords_are_checked,
    passwords_are_nowhere_to_be_read,
);

async fn offer(fixture: &AdminFixture) -> Option<String> {
    let env = fixture.env.clone();
    fixture.db.write(move |conn| setup::offer(conn, &env).map_err(Problem::from)).await.unwrap()
}

async fn the_first_admin_needs_the_one_time_token(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    let (first, second) = (offer(&fixture).await.unwrap(), offer(&fixture).await.unwrap());
    let set_up = |token: &str| json!({ "token": token, "name": "ada", "password": PASSWORD });
    fixture.post("/setup", set_up("guessed")).await.is_problem(401, "");
    let made = fixture.post("/setup", set_up(&first)).await;
    assert_eq!((made.status, &made.body["role"]), (201, &json!("admin")), "{made:?}");
    // Neither it nor any other holds once there is somebody.
    fixture.post("/setup", set_up(&first)).await.is_problem(401, "");
    fixture.post("/setup", set_up(&second)).await.is_problem(401, "");
    assert_eq!(offer(&fixture).await, None);
    fixture.sign_in("ada").await;
    let actions = fixture.audit().await;
    assert_eq!(actions[0], ("ada".to_owned(), "operator.add".to_owned()));
}

async fn a_one_time_token_holds_a_day(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    let token = offer(&fixture).await.unwrap();
    fixture.clock.advance(setup::VALID_FOR + Duration::from_secs(1));
    let body = json!({ "token": token, "name": "ada", "password": PASSWORD });
    fixture.post("/setup", body).await.is_problem(401, "");
}

async fn admins_make_and_change_others(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Admin).await;
    let cookie = fixture.sign_in("admin").await;
    let body = json!({ "name": "bob", "password": PASSWORD, "role": "viewer" });
    let made = fixture.with_cookie("POST", "/users", &cookie, body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["created_by"], "admin");
    fixture.with_cookie("POST", "/users", &cookie, body).await.is_problem(409, "");
    let bobs = fixture.sign_in("bob").await;
    let raised = json!({ "role": "operator" });
    let changed = fixture.with_cookie("PATCH", "/users/bob", &cookie, raised).await;
    assert_eq!(changed.body["role"], "operator", "{changed:?}");
    // A role counts at once, also in a session that is under way.
    let who = fixture.with_cookie("GET", "/session", &bobs, json!(null)).await;
    assert_eq!(who.body["role"], "operator", "{who:?}");
    let out = json!({ "disabled": true });
    let changed = fixture.with_cookie("PATCH", "/users/bob", &cookie, out).await;
    assert_eq!(changed.body["disabled_at"], fixture.env.now().to_string());
    fixture.with_cookie("GET", "/session", &bobs, json!(null)).await.is_problem(401, "");
    fixture.try_sign_in("bob", PASSWORD).await.is_problem(401, "");
    let list = fixture.with_cookie("GET", "/users", &cookie, json!(null)).await;
    assert_eq!(list.items("name"), ["admin", "bob"]);
    fixture.with_cookie("PATCH", "/users/eve", &cookie, json!({})).await.is_problem(404, "");
}

async fn the_last_admin_stays(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    fixture.operator(Role::Admin).await;
    let cookie = fixture.sign_in("admin").await;
    for change in [json!({ "role": "operator" }), json!({ "disabled": true })] {
        let refused = fixture.with_cookie("PATCH", "/users/admin", &cookie, change).await;
        refused.is_problem(409, "");
        assert_eq!(refused.body["type"], "urn:stockloop:problem:last-admin");
    }
    fixture.named("second", Role::Admin).await;
    let out = json!({ "disabled": true });
    let changed = fixture.with_cookie("PATCH", "/users/admin", &cookie, out).await;
    assert_eq!(changed.status, 200, "{changed:?}");
}

async fn names_and_passwords_are_checked(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    for (name, password, role, field) in [
        ("", PASSWORD, "viewer", "name"),
        ("a b", PASSWORD, "viewer", "name"),
        ("<b>", PASSWORD, "viewer", "name"),
        ("x".repeat(65).as_str(), PASSWORD, "viewer", "name"),
        ("bob", "too short", "viewer", "password"),
        ("bob", "x".repeat(201).as_str(), "viewer", "password"),
        ("bob", PASSWORD, "root", "role"),
    ] {
        let body = json!({ "name": name, "password": password, "role": role });
        let request = bearer("POST", "/users", "s3cret").set_json(body);
        fixture.call(request).await.is_problem(422, field);
    }
}

async fn passwords_are_nowhere_to_be_read(fixture: AdminFixture) {
    let fixture = fixture.guarded("s3cret");
    let body = json!({ "name": "bob", "password": PASSWORD, "role": "viewer" });
    let made = fixture.call(bearer("POST", "/users", "s3cret").set_json(body)).await;
    assert!(!made.body.to_string().contains("argon2"), "{made:?}");
    let hash = fixture
        .db
        .read(|conn| super::super::operators::find(conn, "bob").map_err(Problem::from))
        .await
        .unwrap()
        .unwrap()
        .password_hash;
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let entries = fixture.call(bearer("GET", "/audit", "s3cret")).await;
    assert!(!entries.body.to_string().contains("correct horse"), "{entries:?}");
}
