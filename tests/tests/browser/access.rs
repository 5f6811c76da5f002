//! Who comes in, how they leave, and what a viewer may not do.

use reqwest::StatusCode;
use reqwest::header::{COOKIE, LOCATION};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use stockloop_tests::browser::WindowOptions;

use super::fixture::{ADMIN, BrowserFixture, PASSWORD};

/// A form that another site would like to have sent.
const ANOTHER_SITE: &str = "data:text/html,<!doctype html><title>Win a prize</title>\
    <form method=post action='ACTION'><input name=reason value=evil><button>Click here</button></form>";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_is_made_comes_in_and_goes() {
    let Some(fixture) = BrowserFixture::new(WindowOptions::DESKTOP).await else { return };
    fixture.visit("/admin").await;
    fixture.window.expect_path("/admin/login").await;
    let link = fixture.system.product.setup_url();
    fixture.window.visit(link).await;
    fixture.fill_setup(ADMIN, "something else").await;
    fixture.window.expect_text("the two passwords are not the same").await;
    fixture.make_admin().await;
    fixture.window.expect_text(ADMIN).await;

    let session = assert_one_strict_cookie(&fixture).await;
    assert_eq!(ask_with(&fixture, &session).await, StatusCode::OK);
    fixture.window.press("Sign out").await;
    fixture.window.expect_path("/admin/login").await;
    assert_eq!(
        ask_with(&fixture, &session).await,
        StatusCode::SEE_OTHER,
        "the old cookie is worth nothing"
    );
    assert!(fixture.window.cookies().await.is_empty());

    // Whoever wanted to go somewhere gets there after signing in.
    fixture.visit("/admin/users").await;
    fixture.window.expect_path("/admin/login").await;
    fixture.sign_in(ADMIN, "a wrong password").await;
    fixture.window.expect_text("the name or the password is wrong").await;
    assert_eq!(fixture.window.cookies().await.len(), 0);
    fixture.sign_in(ADMIN, PASSWORD).await;
    fixture.window.expect_path("/admin/users").await;

    fixture.window.press("Sign out").await;
    fixture.window.expect_path("/admin/login").await;
    fixture.window.visit(link).await;
    fixture.fill_setup("mallory", PASSWORD).await;
    fixture.window.expect_text("this one-time token is no longer valid").await;
    fixture.close().await;
}

/// The session's cookie, as it is sent back; scripts can't see it.
async fn assert_one_strict_cookie(fixture: &BrowserFixture) -> String {
    let cookies = fixture.window.cookies().await;
    let [cookie] = &cookies[..] else { panic!("one cookie was expected: {cookies:?}") };
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site().map(|same_site| same_site.to_string()).as_deref(), Some("Lax"));
    assert_eq!(fixture.window.run("return document.cookie").await.expect("a text"), "");
    format!("{}={}", cookie.name(), cookie.value())
}

/// What the overview answers to this cookie.
async fn ask_with(fixture: &BrowserFixture, cookie: &str) -> StatusCode {
    let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let url = format!("{}/admin", fixture.system.product.base_url.get());
    let answer = http.get(url).header(COOKIE, cookie).send().await.expect("an answer");
    if let Some(location) = answer.headers().get(LOCATION) {
        assert!(location.to_str().expect("text").starts_with("/admin/login"), "{location:?}");
    }
    answer.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_and_does_nothing() {
    let Some(fixture) = BrowserFixture::new(WindowOptions::DESKTOP).await else { return };
    let event = fixture.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    fixture.add_user("vera", "viewer").await;
    fixture.visit("/admin").await;
    fixture.sign_in("vera", PASSWORD).await;
    fixture.window.expect_path("/admin").await;

    let event_page = format!("/admin/events/{id}");
    for path in [
        "/admin",
        "/admin/events",
        &event_page,
        "/admin/alerts",
        "/admin/silences",
        "/admin/mails",
        "/admin/jobs",
        "/admin/relay",
        "/admin/quarantine",
        "/admin/dead-letters",
    ] {
        fixture.visit(path).await;
        fixture.window.expect_text("Sign out").await;
        let actions = "main form[method=post]";
        assert!(!fixture.window.has(actions).await, "{path} offers a viewer what they may not do");
    }
    fixture.visit(&event_page).await;
    fixture.window.expect_text("TEA").await;
    assert!(!fixture.window.offers("Retry").await && !fixture.window.offers("Resolve").await);
    for path in [format!("{event_page}/retry"), format!("/api/admin/v1/events/{id}/retry")] {
        assert_eq!(forge(&fixture, &path).await, 403, "{path}");
    }
    fixture.visit("/admin/users").await;
    fixture.window.expect_text("this needs the role admin").await;
    assert_untouched(&fixture, id).await;
    fixture.close().await;
}

/// The status that the page's own script gets for a POST with the window's cookie.
async fn forge(fixture: &BrowserFixture, path: &str) -> Value {
    let script = format!(
        "const done = arguments[arguments.length - 1];
         fetch('{path}', {{ method: 'POST' }}).then(answer => done(answer.status), error => done(String(error)));"
    );
    fixture.window.run_async(&script).await.expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_does_nothing_with_an_admins_session() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    let event = fixture.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    let action = format!("{}/admin/events/{id}/resolve", fixture.system.product.base_url.get());
    fixture.window.visit(&ANOTHER_SITE.replace("ACTION", &action)).await;
    fixture.window.press("Click here").await;
    fixture.window.expect_text("this request comes from a page of another site").await;
    assert_untouched(&fixture, id).await;
    // And nobody was signed out by it.
    fixture.visit("/admin").await;
    fixture.window.expect_text(ADMIN).await;
    fixture.close().await;
}

async fn assert_untouched(fixture: &BrowserFixture, id: &str) {
    let event = fixture.system.product.event(id).await;
    assert_eq!(
        (&event["status"], &event["resolved"]),
        (&json!("EXHAUSTED"), &Value::Null),
        "{event}"
    );
    assert_eq!(event["attempt"], event["attempt_limit"], "{event}");
}
