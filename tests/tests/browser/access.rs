//! Who comes in, how they leave, and what a viewer may not do.

use reqwest::StatusCode;
use reqwest::header::{COOKIE, LOCATION};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use stockloop_tests::browser::Look;

use super::desk::{ADMIN, Desk, PASSWORD};

/// A form that another site would like to have sent.
const ANOTHER_SITE: &str = "data:text/html,<!doctype html><title>Win a prize</title>\
    <form method=post action='ACTION'><input name=reason value=evil><button>Click here</button></form>";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_is_made_comes_in_and_goes() {
    let Some(desk) = Desk::new(Look::DESK).await else { return };
    desk.visit("/admin").await;
    desk.window.at("/admin/login").await;
    let link = desk.stage.product.setup_url();
    desk.window.visit(link).await;
    desk.window.fill("Name", ADMIN).await;
    desk.window.fill("Password", PASSWORD).await;
    desk.window.fill("The password again", "something else").await;
    desk.window.press("Make the admin").await;
    desk.window.sees("the two passwords are not the same").await;
    desk.make_admin().await;
    desk.window.sees(ADMIN).await;

    let session = assert_one_strict_cookie(&desk).await;
    assert_eq!(ask_with(&desk, &session).await, StatusCode::OK);
    desk.window.press("Sign out").await;
    desk.window.at("/admin/login").await;
    assert_eq!(
        ask_with(&desk, &session).await,
        StatusCode::SEE_OTHER,
        "the old cookie is worth nothing"
    );
    assert!(desk.window.cookies().await.is_empty());

    // Whoever wanted to go somewhere gets there after signing in.
    desk.visit("/admin/users").await;
    desk.window.at("/admin/login").await;
    desk.sign_in(ADMIN, "a wrong password").await;
    desk.window.sees("name or password are wrong").await;
    assert_eq!(desk.window.cookies().await.len(), 0);
    desk.sign_in(ADMIN, PASSWORD).await;
    desk.window.at("/admin/users").await;

    desk.window.press("Sign out").await;
    desk.window.at("/admin/login").await;
    desk.window.visit(link).await;
    desk.window.fill("Name", "mallory").await;
    desk.window.fill("Password", PASSWORD).await;
    desk.window.fill("The password again", PASSWORD).await;
    desk.window.press("Make the admin").await;
    desk.window.sees("this one-time token does not hold any more").await;
    desk.leave().await;
}

/// The session's cookie, as it is sent back; scripts can't see it.
async fn assert_one_strict_cookie(desk: &Desk) -> String {
    let cookies = desk.window.cookies().await;
    let [cookie] = &cookies[..] else { panic!("one cookie was expected: {cookies:?}") };
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site().map(|same_site| same_site.to_string()).as_deref(), Some("Lax"));
    assert_eq!(desk.window.run("return document.cookie").await.expect("a text"), "");
    format!("{}={}", cookie.name(), cookie.value())
}

/// What the overview answers to this cookie.
async fn ask_with(desk: &Desk, cookie: &str) -> StatusCode {
    let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let url = format!("{}/admin", desk.stage.product.base.get());
    let answer = http.get(url).header(COOKIE, cookie).send().await.expect("an answer");
    if let Some(location) = answer.headers().get(LOCATION) {
        assert!(location.to_str().expect("text").starts_with("/admin/login"), "{location:?}");
    }
    answer.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_and_does_nothing() {
    let Some(desk) = Desk::new(Look::DESK).await else { return };
    let event = desk.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    desk.add_user("vera", "viewer").await;
    desk.visit("/admin").await;
    desk.sign_in("vera", PASSWORD).await;
    desk.window.at("/admin").await;

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
        desk.visit(path).await;
        desk.window.sees("Sign out").await;
        let deeds = "main form[method=post]";
        assert!(!desk.window.has(deeds).await, "{path} offers a viewer what they may not do");
    }
    desk.visit(&event_page).await;
    desk.window.sees("TEA").await;
    assert!(!desk.window.offers("Retry").await && !desk.window.offers("Resolve").await);
    for path in [format!("{event_page}/retry"), format!("/api/admin/v1/events/{id}/retry")] {
        assert_eq!(forge(&desk, &path).await, 403, "{path}");
    }
    desk.visit("/admin/users").await;
    desk.window.sees("this needs the role admin").await;
    assert_untouched(&desk, id).await;
    desk.leave().await;
}

/// The status that the page's own script gets for a POST with the window's cookie.
async fn forge(desk: &Desk, path: &str) -> Value {
    let script = format!(
        "const done = arguments[arguments.length - 1];
         fetch('{path}', {{ method: 'POST' }}).then(answer => done(answer.status), error => done(String(error)));"
    );
    desk.window.run_async(&script).await.expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_does_nothing_with_an_admins_session() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    let event = desk.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    let action = format!("{}/admin/events/{id}/resolve", desk.stage.product.base.get());
    desk.window.visit(&ANOTHER_SITE.replace("ACTION", &action)).await;
    desk.window.press("Click here").await;
    desk.window.sees("this request comes from a page of another site").await;
    assert_untouched(&desk, id).await;
    // And nobody was signed out by it.
    desk.visit("/admin").await;
    desk.window.sees(ADMIN).await;
    desk.leave().await;
}

async fn assert_untouched(desk: &Desk, id: &str) {
    let event = desk.stage.product.get(&format!("/api/admin/v1/events/{id}")).await.ok();
    assert_eq!(
        (&event["status"], &event["resolved"]),
        (&json!("EXHAUSTED"), &Value::Null),
        "{event}"
    );
    assert_eq!(event["attempt"], event["attempt_limit"], "{event}");
}
