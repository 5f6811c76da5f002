//! What each service says of its API: a snapshot, so that no change goes unseen, and held against what it answers to.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::introspection::IntrospectionTree;
use actix_web::test::{TestRequest, call_and_read_body_json, init_service};
use actix_web::{App, HttpResponse, web};
use common::access::Guard;
use common::app::{Service, mount};
use common::clock::SystemClock;
use common::config::Settings;
use common::db::Db;
use common::engine::Engine;
use common::env::Env;
use common::openapi::document;
use serde_json::Value;
use tempfile::TempDir;

/// What people look at in a browser; programs have no use for it.
const PAGES: [&str; 3] = ["/admin", "/api/docs", "/"];

#[test]
fn the_document_of_product_service() {
    insta::assert_json_snapshot!(json(&product_service::SERVICE));
}

#[test]
fn the_document_of_order_service() {
    insta::assert_json_snapshot!(json(&order_service::SERVICE));
}

#[actix_web::test]
async fn product_service_answers_to_what_it_documents() {
    compare(product_service::SERVICE).await;
}

#[actix_web::test]
async fn order_service_answers_to_what_it_documents() {
    compare(order_service::SERVICE).await;
}

#[test]
fn every_reference_leads_somewhere() {
    for service in [product_service::SERVICE, order_service::SERVICE] {
        let document = json(&service);
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 100, "{}", references.len());
        for to in references {
            assert!(to.starts_with("#/") && document.pointer(&to[1..]).is_some(), "{to}");
        }
        // What rustdoc makes a link of leads nowhere for who reads this.
        assert!(!document.to_string().contains("[`"), "a link into the code");
    }
}

/// By way of a value, so that its maps are sorted.
fn json(service: &Service) -> Value {
    serde_json::to_value(document(service)).expect("the document is JSON")
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

async fn compare(service: Service) {
    let document = json(&service);
    let paths = document["paths"].as_object().expect("paths");
    let documented = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("a path").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let documented: BTreeSet<String> = documented.collect();
    assert_eq!(documented, routes(service).await);
}

/// The method and the pattern of everything but the pages that `service` answers to.
async fn routes(service: Service) -> BTreeSet<String> {
    let folder = TempDir::new().expect("a folder");
    let mut settings = Settings::load(service.defaults, None).expect("the defaults can be read");
    settings.database.url = format!("sqlite:{}", folder.path().join("test.db").display()).into();
    let db = Db::open(&settings.database).expect("a database");
    let env = Env::seeded(Arc::new(SystemClock), 1);
    let url = "http://127.0.0.1:1";
    let guard = Guard::new(db.clone(), env.clone(), &settings, url);
    let engine = Engine::over(db, settings, env, url).expect("an engine");
    let mounted = mount(service, &engine, guard).expect("routes");
    let app = App::new().configure(mounted).route("/", web::get().to(report));
    let app = init_service(app).await;
    let request = TestRequest::get().uri("/").to_request();
    let report: Vec<Value> = call_and_read_body_json(&app, request).await;
    let resources = report.iter().filter(|item| item["resource_type"] == "resource");
    let routes = resources.flat_map(|item| {
        let path = plain(item["full_path"].as_str().expect("a path"));
        let methods = item["methods"].as_array().expect("methods").iter();
        // HEAD comes with GET.
        let methods = methods.map(|method| method.as_str().expect("a method").to_owned());
        let methods = methods.filter(|method| method != "HEAD");
        methods.map(move |method| format!("{method} {path}")).collect::<Vec<_>>()
    });
    let is_page = |route: &String| {
        let path = route.split(' ').nth(1).unwrap_or_default();
        let root = path.split('/').nth(1).unwrap_or_default();
        PAGES.contains(&path) || path.starts_with("/api/docs/") || root == "admin"
    };
    routes.filter(|route| !is_page(route)).collect()
}

async fn report(tree: web::Data<IntrospectionTree>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(tree.report_as_json())
}

/// `{sku:[^/]*}` as `{sku}`.
fn plain(pattern: &str) -> String {
    let mut parts = pattern.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').expect("a closed pattern");
        let name = name.split(':').next().unwrap_or_default();
        plain.push_str(&format!("{{{name}}}{rest}"));
    }
    plain
}
