//! How the pages look: to everybody (axe-core), on narrow screens, and on the documentation's screenshots.

use std::time::Duration;

use stockloop_tests::browser::{Axe, WindowOptions};
use stockloop_tests::real;

use super::fixture::{BrowserFixture, minutes_of_screenshots};
use super::populated_shop::PopulatedShop;

/// How a page is looked at: it is loaded in the first way, and shown in the others without being loaded again.
type View = &'static [WindowOptions];

const DESKTOP: WindowOptions = WindowOptions::DESKTOP;
const PHONE: WindowOptions = WindowOptions::PHONE;
/// Every width in all colours, and each page is loaded in the light and in the dark.
const EVERY_VIEW: [View; 2] = [&[DESKTOP, DESKTOP.dark()], &[PHONE.dark(), PHONE]];
/// Two that differ in both.
const SOME_VIEWS: [View; 2] = [&[DESKTOP.dark()], &[PHONE]];

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shuts_anybody_out() {
    let Some(axe) = real::axe() else { return };
    let Some(fixture) = BrowserFixture::new(DESKTOP).await else { return };
    let setup = fixture.system.product.setup_url().to_owned();
    let setup = setup.trim_start_matches(&fixture.system.product.base_url.get());
    let mut faults = faults_of(&fixture, axe, &EVERY_VIEW, &["/admin/login", setup]).await;
    fixture.make_admin().await;
    let empty = [
        "/admin",
        "/admin/events",
        "/admin/dead-letters",
        "/admin/jobs",
        "/admin/proof",
        "/admin/relay",
        "/admin/purchases",
    ];
    faults.extend(faults_of(&fixture, axe, &SOME_VIEWS, &empty).await);
    let shop = PopulatedShop::create(&fixture, Duration::from_secs(2)).await;
    let full = pages(&shop);
    let full: Vec<_> = full.iter().map(String::as_str).collect();
    faults.extend(faults_of(&fixture, axe, &EVERY_VIEW, &full).await);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    fixture.close().await;
}

/// Every page, with something on it.
fn pages(shop: &PopulatedShop) -> Vec<String> {
    let PopulatedShop { event, job, alert, dead_letter, verification, resync } = shop;
    let one = [
        format!("/admin/events/{event}"),
        format!("/admin/jobs/{job}"),
        format!("/admin/alerts/{alert}"),
        format!("/admin/dead-letters/{dead_letter}"),
        format!("/admin/proof/{verification}"),
        format!("/admin/resyncs/{resync}"),
    ];
    let lists = [
        "",
        "/events",
        "/jobs",
        "/alerts",
        "/silences",
        "/mails",
        "/dead-letters",
        "/proof",
        "/relay",
        "/quarantine",
        "/audit",
        "/users",
        "/tokens",
        "/account",
        "/nowhere",
    ];
    lists.iter().map(|list| format!("/admin{list}")).chain(one).collect()
}

/// What is wrong with pages, each in all `views`.
async fn faults_of(
    fixture: &BrowserFixture,
    axe: &Axe,
    views: &[View],
    paths: &[&str],
) -> Vec<String> {
    let mut faults = Vec::new();
    for view in views {
        for path in paths {
            fixture.apply(view[0]).await;
            fixture.visit(path).await;
            for options in *view {
                fixture.apply(*options).await;
                let found = faults_in_sight(fixture, axe, *options).await;
                faults.extend(found.iter().map(|fault| format!("{path} as {options:?}: {fault}")));
            }
        }
    }
    faults
}

async fn faults_in_sight(
    fixture: &BrowserFixture,
    axe: &Axe,
    options: WindowOptions,
) -> Vec<String> {
    let findings = axe.findings(&fixture.window).await.expect("a page can be checked");
    let mut faults: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let width = fixture.window.run("return document.documentElement.scrollWidth").await;
    let width = width.expect("a width").as_u64().expect("a number");
    if width > u64::from(options.width) {
        faults.push(format!("it is {width} pixels wide"));
    }
    let messages = fixture.window.console_messages().await.expect("a console can be read");
    // That a page is not there is told there too.
    faults.extend(messages.into_iter().filter(|message| !message.contains("404")));
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn screenshots_for_the_documentation() {
    let Some(minutes) = minutes_of_screenshots() else { return };
    let Some(fixture) = BrowserFixture::with_admin(DESKTOP).await else { return };
    let shop = PopulatedShop::create(&fixture, Duration::from_secs(60 * minutes)).await;
    fixture.visit("/admin").await;
    // Only now the newest counts know all that was done.
    fixture.window.expect_text("4 events wait for a person").await;
    fixture.window.expect_text("1 acknowledged").await;
    let overview = || "/admin?window=15m".to_owned();
    // Down to the end of the first charts.
    let tall = WindowOptions { height: 965, ..DESKTOP };
    let views = [
        ("overview", overview(), tall),
        ("overview-dark", overview(), tall.dark()),
        ("overview-phone", overview(), PHONE),
        ("events", "/admin/events?status=EXHAUSTED".to_owned(), DESKTOP),
        ("event", format!("/admin/events/{}", shop.event), DESKTOP),
        ("proof", "/admin/proof".to_owned(), DESKTOP),
        ("alerts", "/admin/alerts".to_owned(), DESKTOP),
        ("alerts-dark", "/admin/alerts".to_owned(), DESKTOP.dark()),
    ];
    for (name, path, options) in views {
        fixture.apply(options).await;
        fixture.visit(&path).await;
        fixture.screenshot(name).await;
    }
    fixture.close().await;
}
