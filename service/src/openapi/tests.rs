#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use actix_web::App;
use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use utoipa::OpenApi;

use super::complete::{complete, operations};
use super::{Shared, configure};

/// What all services have.
fn shared() -> utoipa::openapi::OpenApi {
    let mut document = Shared::openapi();
    document.merge(admin::api::openapi());
    complete(&mut document);
    document
}

#[test]
fn every_rule_has_an_operation_and_every_operation_of_operators_a_rule() {
    let mut document = shared();
    let documented: BTreeSet<String> = document
        .paths
        .paths
        .iter_mut()
        .filter(|(path, _)| path.starts_with(admin::api::RULES.scope))
        .flat_map(|(path, item)| {
            operations(item).map(move |(method, _)| format!("{method} {path}"))
        })
        .collect();
    let ruled: BTreeSet<String> =
        admin::api::RULES.all().map(|(path, rule)| format!("{} {path}", rule.method)).collect();
    assert_eq!(documented, ruled);
}

#[test]
fn every_operation_has_its_own_id_a_tag_that_is_told_and_a_summary() {
    let mut document = shared();
    let tags: BTreeSet<String> =
        document.tags.clone().unwrap().into_iter().map(|tag| tag.name).collect();
    let mut ids = BTreeSet::new();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            assert!(ids.insert(operation.operation_id.clone()), "{method} {path}");
            assert!(operation.summary.is_some(), "{method} {path} has no summary");
            let used = operation.tags.clone().unwrap();
            assert!(used.iter().all(|tag| tags.contains(tag)), "{method} {path} has {used:?}");
        }
    }
}

#[actix_web::test]
async fn the_document_is_sent_once_to_who_keeps_it() {
    let app = init_service(App::new().configure(configure(&shared()).unwrap())).await;
    let get = || TestRequest::get().uri("/api/openapi.json");
    let first = call_service(&app, get().to_request()).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers().get(CONTENT_TYPE).unwrap(), "application/json");
    let tag = first.headers().get(ETAG).unwrap().clone();
    let body: serde_json::Value = serde_json::from_slice(&read_body(first).await).unwrap();
    assert_eq!(body["openapi"], "3.1.0");
    let again = get().insert_header((IF_NONE_MATCH, tag)).to_request();
    assert_eq!(call_service(&app, again).await.status(), 304);
    let other = get().insert_header((IF_NONE_MATCH, "\"other\"")).to_request();
    assert_eq!(call_service(&app, other).await.status(), 200);
}

#[actix_web::test]
async fn people_read_it_without_a_network() {
    let app = init_service(App::new().configure(configure(&shared()).unwrap())).await;
    let get = |path: &str| TestRequest::get().uri(path).to_request();
    let to = call_service(&app, get("/api/docs")).await;
    assert_eq!(
        (to.status().as_u16(), to.headers().get(LOCATION).unwrap()),
        (308, &"/api/docs/".parse().unwrap())
    );
    let page = call_service(&app, get("/api/docs/")).await;
    assert_eq!(page.status(), 200);
    let policy = page.headers().get(CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    let html = String::from_utf8(read_body(page).await.to_vec()).unwrap();
    assert!(!html.contains("://"), "{html}");
    for file in ["swagger-ui.css", "index.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert!(html.contains(file), "{file}");
        let sent = call_service(&app, get(&format!("/api/docs/{file}"))).await;
        assert_eq!(sent.status(), 200, "{file}");
    }
    let start = call_service(&app, get("/api/docs/swagger-initializer.js")).await;
    let start = String::from_utf8(read_body(start).await.to_vec()).unwrap();
    assert!(start.contains("/api/openapi.json") && !start.contains("://"), "{start}");
    assert_eq!(call_service(&app, get("/api/docs/none.js")).await.status(), 404);
}
