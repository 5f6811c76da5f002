use actix_web::test::TestRequest;
use serde_json::json;
use stockloop_tests::database::TestDatabase;

use super::super::Role;
use super::{bearer, request};
use crate::api::tests::Bench;

fn put() -> TestRequest {
    request("PUT", "/quarantine/A").set_json(json!({ "reason": "x" }))
}

#[actix_web::test]
async fn pages_of_other_sites_change_nothing() {
    let bench = Bench::new(TestDatabase::sqlite()).guarded("s3cret");
    bench.operator(Role::Operator).await;
    let cookie = bench.sign_in("operator").await;
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
        assert_eq!(bench.call(request).await.status, status, "{name}: {value}");
    }
    // No page can make a browser send a bearer token.
    let script = bearer("PUT", "/quarantine/A", "s3cret").set_json(json!({ "reason": "x" }));
    let script = script.insert_header(("origin", "https://evil.example"));
    assert_eq!(bench.call(script).await.status, 200);
    // Reading is harmless: the browser shows the answer to nobody else.
    let read = request("GET", "/quarantine")
        .insert_header(("cookie", cookie.as_str()))
        .insert_header(("sec-fetch-site", "cross-site"));
    assert_eq!(bench.call(read).await.status, 200);
}

#[actix_web::test]
async fn nobody_is_signed_in_by_another_site() {
    let bench = Bench::new(TestDatabase::sqlite()).guarded("");
    bench.operator(Role::Viewer).await;
    let sign_in = request("POST", "/session")
        .insert_header(("sec-fetch-site", "cross-site"))
        .set_json(json!({ "name": "viewer", "password": super::PASSWORD }));
    bench.call(sign_in).await.is_problem(403, "");
}

#[actix_web::test]
async fn open_access_is_for_this_machine_only() {
    let bench = Bench::new(TestDatabase::sqlite());
    assert_eq!(bench.call(put()).await.status, 201);
    // A name of another site that was made to point here.
    let rebound = request("GET", "/overview").insert_header(("host", "evil.example"));
    bench.call_as_is(rebound).await.is_problem(403, "");
    let far = request("GET", "/overview").peer_addr("192.0.2.1:40000".parse().unwrap());
    bench.call(far).await.is_problem(403, "");
    let foreign = put().insert_header(("sec-fetch-site", "cross-site"));
    bench.call(foreign).await.is_problem(403, "");
}
