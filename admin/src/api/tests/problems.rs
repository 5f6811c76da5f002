use actix_web::http::header::ALLOW;
use actix_web::test::TestRequest;
use serde_json::json;
use stockloop_tests::database::TestDatabase;

use super::AdminFixture;

#[actix_web::test]
async fn unknown_addresses_and_methods_are_problems() {
    let fixture = AdminFixture::new(TestDatabase::sqlite());
    fixture.get("/nothing").await.is_problem(404, "");
    fixture.get("").await.is_problem(404, "");
    fixture.get("/events/").await.is_problem(404, "");
    fixture.call(TestRequest::get().uri("/api/v9/nothing")).await.is_problem(404, "");
    let id = "019b8f00-0000-7000-8000-000000000000";
    for (path, allow) in [
        ("/overview", "GET"),
        ("/events", "GET"),
        (&format!("/events/{id}"), "GET"),
        (&format!("/events/{id}/retry"), "POST"),
        (&format!("/events/{id}/resolve"), "POST"),
        ("/alerts", "GET"),
        ("/dead-letters", "GET"),
        ("/dead-letters/1", "GET"),
        ("/quarantine", "GET"),
        ("/quarantine/A", "GET, PUT, DELETE"),
    ] {
        let uri = format!("/api/admin/v1{path}");
        let refused = fixture.call(TestRequest::patch().uri(&uri)).await;
        refused.is_problem(405, "");
        assert_eq!(refused.header(ALLOW), allow, "{path}");
    }
    fixture.get("/overview?verbose=1").await.is_problem(422, "verbose");
    fixture.get("/quarantine?limit=x").await.is_problem(422, "limit");
}

#[actix_web::test]
async fn a_token_is_asked_for_when_set() {
    let fixture = AdminFixture::new(TestDatabase::sqlite()).guarded("s3cret");
    fixture.get("/overview").await.is_problem(401, "");
    fixture.get("/nothing").await.is_problem(401, "");
    let body = json!({ "reason": "x" });
    fixture.put("/quarantine/A", body.clone()).await.is_problem(401, "");
    let with = |request: TestRequest, token: &str| {
        request.insert_header(("authorization", format!("Bearer {token}")))
    };
    let uri = "/api/admin/v1/quarantine/A";
    let put = || TestRequest::put().uri(uri).set_json(body.clone());
    fixture.call(with(put(), "s3cre")).await.is_problem(401, "");
    let admitted = fixture.call(with(put(), "s3cret")).await;
    assert_eq!((admitted.status, &admitted.body["by"]), (201, &json!("admin")));
}

#[actix_web::test]
async fn without_a_database_it_says_try_again() {
    let fixture = AdminFixture::unmigrated();
    fixture.get("/overview").await.is_problem(500, "");
    fixture.get("/events").await.is_problem(500, "");
}
