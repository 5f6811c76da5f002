//! What each service says of its API: a snapshot, so that no change goes unseen, and held against what it answers to.

use std::collections::BTreeSet;
use std::sync::Arc;

use admin::access::Guard;
use common::clock::SystemClock;
use common::config::Settings;
use common::env::Env;
use engine::Engine;
use serde_json::Value;
use service::app::{Service, mount};
use service::openapi::document;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::routes::routes_of;

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
    let document = document(service.name, service.about, (service.openapi)());
    serde_json::to_value(document).expect("the document is JSON")
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
    let database = TestDatabase::sqlite();
    let db = database.open(&[]);
    let settings = Settings::load(service.defaults, None).expect("the defaults can be read");
    let env = Env::seeded(Arc::new(SystemClock), 1);
    let url = "http://127.0.0.1:1";
    let guard = Guard::new(db.clone(), env.clone(), &settings, url);
    let (engine, _work) =
        Engine::with_database(db, settings, env, url, service.hooks).expect("an engine");
    let routes = routes_of(mount(service, &engine, guard).expect("routes")).await;
    // HEAD comes with GET.
    let routes = routes.into_iter().filter(|(method, path)| method != "HEAD" && !is_page(path));
    routes.map(|(method, path)| format!("{method} {}", plain(&path))).collect()
}

fn is_page(path: &str) -> bool {
    let root = path.split('/').nth(1).unwrap_or_default();
    PAGES.contains(&path) || path.starts_with("/api/docs/") || root == "admin"
}

/// `{sku:[^/]*}` as `{sku}`.
pub(crate) fn plain(pattern: &str) -> String {
    let mut parts = pattern.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').expect("a closed pattern");
        let name = name.split(':').next().unwrap_or_default();
        plain.push_str(&format!("{{{name}}}{rest}"));
    }
    plain
}
