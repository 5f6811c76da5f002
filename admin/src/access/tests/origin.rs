use actix_web::test::TestRequest;
use serde_json::json;
use stockloop_tests::database::TestDatabase;

use super::super::Role;
use super::{bearer, request};
use crate::api::tests::AdminFixture;

fn put() -> TestRequest {
    request("PUT", "/quarantine/A").set_json(json!({ "reason": "x" }))
}

#[actix_web::test]
async fn pages_of_other_sites_change_nothing() {
    let fixture = AdminFixture::new(TestDatabase::sqlite()).guarded("s3cret");
    fixture.operator(Role::Operator).await;
    let cookie = fixture.sign_in("operator").await;
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "same-origin", 201),
        ("sec-fetch-site", "none", 200),
        ("origin", "http://localhost", 200),
    ] {
        let request = put().insert_header(("cookie", cookie.as_str())).insert_header((name, value));
        assert_eq!(fixture.call(request).await.status, status, "{name}: {value}");
    }
    // No page can make a browser send a bearer token.
    let script = bearer("PUT", "/quarantine/A", "s3cret").set_json(json!({ "reason": "x" }));
    let script = script.insert_header(("origin", "https://evil.example"));
    assert_eq!(fixture.call(script).await.status, 200);
    // Reading is harmless: the browser shows the answer to nobody else.
    let read = request("GET", "/quarantine")
        .insert_header(("cookie", cookie.as_str()))
        .insert_header(("sec-fetch-site", "cross-site"));
    assert_eq!(fixture.call(read).await.status, 200);
}

#[actix_web::test]
async fn nobody_is_signed_in_by_another_site() {
    let fixture = AdminFixture::new(TestDatabase::sqlite()).guarded("");
    fixture.operator(Role::Viewer).await;
    let sign_in = request("POST", "/session")
        .insert_header(("sec-fetch-site", "cross-site"))
        .set_json(json!({ "name": "viewer", "password": super::PASSWORD }));
    fixture.call(sign_in).await.is_problem(403, "");
}

#[actix_web::test]
async fn open_access_is_for_this_machine_only() {
    let fixture = AdminFixture::new(TestDatabase::sqlite());
    assert_eq!(fixture.call(put()).await.status, 201);
    // A name of another site that was made to point here.
    let rebound = request("GET", "/overview").insert_header(("host", "evil.example"));
    fixture.call_as_is(rebound).await.is_problem(403, "");
    let far = request("GET", "/overview").peer_addr("192.0.2.1:40000".parse().unwrap());
    fixture.call(far).await.is_problem(403, "");
    let foreign = put().insert_header(("sec-fetch-site", "cross-site"));
    fixture.call(foreign).await.is_problem(403, "");
}
