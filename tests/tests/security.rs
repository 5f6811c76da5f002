//! What of a whole service answers to anybody, and what asks who that is: the app itself is asked, route by route.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use actix_web::App;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, LOCATION};
use actix_web::test::{TestRequest, call_service, init_service};
use admin::access::Guard;
use common::clock::SystemClock;
use common::config::Settings;
use common::env::Env;
use engine::Engine;
use service::app::{Service, mount};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::routes::routes_of;

use crate::openapi::plain;

const TOKEN: &str = "the-token-of-the-api";

/// All that answers to anybody where `http.api_token` is set: health, descriptions, and what signing in takes.
const OPEN: [&str; 13] = [
    "GET /admin/assets/{file}",
    "GET /admin/login",
    "GET /admin/setup",
    "GET /api/docs",
    "GET /api/docs/{file}",
    "GET /api/openapi.json",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "POST /admin/login",
    "POST /admin/setup",
    "POST /api/admin/v1/session",
    "POST /api/admin/v1/setup",
];

#[actix_web::test]
async fn product_service_asks_who_it_is() {
    asks_who_it_is(product_service::SERVICE).await;
}

#[actix_web::test]
async fn order_service_asks_who_it_is() {
    asks_who_it_is(order_service::SERVICE).await;
}

async fn asks_who_it_is(service: Service) {
    let database = TestDatabase::sqlite();
    let db = database.open(service.migrations);
    let mut settings = Settings::load(service.defaults, None).expect("the defaults can be read");
    settings.http.api_token = TOKEN.into();
    let env = Env::seeded(Arc::new(SystemClock), 1);
    let url = "http://127.0.0.1:1";
    let guard = Guard::new(db.clone(), env.clone(), &settings, url);
    let (engine, _work) =
        Engine::with_database(db, settings, env, url, service.hooks).expect("an engine");
    let mounted = mount(service, &engine, guard).expect("routes");
    let routes = routes_of(mounted.clone()).await;
    let app = init_service(App::new().configure(mounted)).await;
    // Whether a route does its work, rather than asking who that is.
    let answers = async |method: &str, pattern: &str, token: &str| {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = TestRequest::default().method(method).uri(&address(pattern));
        if !token.is_empty() {
            request = request.insert_header((AUTHORIZATION, format!("Bearer {token}")));
        }
        let answer = call_service(&app, request.to_request()).await;
        let leads_to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        answer.status() != 401 && !leads_to.is_some_and(|to| to.starts_with("/admin/login"))
    };
    let mut open = BTreeSet::new();
    for (method, pattern) in routes {
        // HEAD comes with GET, and nothing is at the root.
        if method != "HEAD" && pattern != "/" && answers(&method, &pattern, "").await {
            open.insert(format!("{method} {}", plain(&pattern)));
        }
    }
    assert_eq!(open, OPEN.map(str::to_owned).into());
    let api = "/api/v1/inventory";
    assert!(!answers("GET", api, "another-token").await, "a wrong token is none");
    assert!(answers("GET", api, TOKEN).await, "the right one is taken");
    let operators = "/api/admin/v1/overview";
    assert!(!answers("GET", operators, TOKEN).await, "it is no operator's");
}

/// `/inventory/{sku:[^/]*}/history` as `/inventory/x/history`.
fn address(pattern: &str) -> String {
    let plain = plain(pattern);
    let mut parts = plain.split('{');
    let mut address = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('}').expect("a closed pattern");
        address.push_str(&format!("x{rest}"));
    }
    address
}

const DOCUMENT: &str = include_str!("../../docs/SECURITY.md");

/// The document names a test for each line; one that was renamed, or is gone, holds nothing.
#[test]
fn every_test_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let code = DOCUMENT.split('`').skip(1).step_by(2);
    let named: BTreeSet<(&str, &str)> = code.filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 60, "the document names tests: {named:?}");
    for (file, test) in named {
        let text =
            fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "there is no {test} in {file}");
    }
}
