//! How the pages look: to everybody (axe-core), on narrow screens, and on the documentation's pictures.

use std::time::Duration;

use stockloop_tests::browser::{Axe, Look};
use stockloop_tests::real;

use super::desk::{Desk, minutes_of_pictures};
use super::shop::Shop;

/// Every width in every colours; the two in the middle differ in both.
const LOOKS: [Look; 4] = [Look::DESK, Look::DESK.dark(), Look::PHONE, Look::PHONE.dark()];

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shuts_anybody_out() {
    let Some(axe) = real::axe() else { return };
    let Some(desk) = Desk::new(Look::DESK).await else { return };
    let setup = desk.stage.product.setup_url().to_owned();
    let setup = setup.trim_start_matches(&desk.stage.product.base.get());
    let mut faults = faults_of(&desk, axe, &LOOKS, &["/admin/login", setup]).await;
    desk.make_admin().await;
    let empty = ["/admin", "/admin/events", "/admin/dead-letters", "/admin/jobs", "/admin/relay"];
    faults.extend(faults_of(&desk, axe, &LOOKS[1..3], &empty).await);
    let shop = Shop::at_work(&desk, Duration::from_secs(2)).await;
    let full = pages(&shop);
    let full: Vec<_> = full.iter().map(String::as_str).collect();
    faults.extend(faults_of(&desk, axe, &LOOKS, &full).await);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    desk.leave().await;
}

/// Every page, with something on it.
fn pages(shop: &Shop) -> Vec<String> {
    let Shop { event, job, alert, dead_letter } = shop;
    let one = [
        format!("/admin/events/{event}"),
        format!("/admin/jobs/{job}"),
        format!("/admin/alerts/{alert}"),
        format!("/admin/dead-letters/{dead_letter}"),
    ];
    let lists = [
        "",
        "/events",
        "/jobs",
        "/alerts",
        "/silences",
        "/mails",
        "/dead-letters",
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

/// What is wrong with pages, each in all `looks`.
async fn faults_of(desk: &Desk, axe: &Axe, looks: &[Look], paths: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for &look in looks {
        desk.window.look(look).await.expect("a look can be changed");
        for path in paths {
            desk.visit(path).await;
            let found = faults_in_sight(desk, axe, look).await;
            faults.extend(found.iter().map(|fault| format!("{path} as {look:?}: {fault}")));
        }
    }
    faults
}

async fn faults_in_sight(desk: &Desk, axe: &Axe, look: Look) -> Vec<String> {
    let findings = axe.findings(&desk.window).await.expect("a page can be checked");
    let mut faults: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let wide = desk.window.run("return document.documentElement.scrollWidth").await;
    let wide = wide.expect("a width").as_u64().expect("a number");
    if wide > u64::from(look.width) {
        faults.push(format!("it is {wide} pixels wide"));
    }
    let complaints = desk.window.complaints().await.expect("a console can be read");
    // That a page is not there is told there too.
    faults.extend(complaints.into_iter().filter(|told| !told.contains("404")));
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_for_the_documentation() {
    let Some(minutes) = minutes_of_pictures() else { return };
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    let shop = Shop::at_work(&desk, Duration::from_secs(60 * minutes)).await;
    desk.visit("/admin").await;
    // Only now the newest counts know all that was done.
    desk.window.sees("4 events wait for a person").await;
    desk.window.sees("1 acknowledged").await;
    let overview = || "/admin?window=15m".to_owned();
    // Down to the end of the first charts.
    let tall = Look { height: 965, ..Look::DESK };
    let views = [
        ("overview", overview(), tall),
        ("overview-dark", overview(), tall.dark()),
        ("overview-phone", overview(), Look::PHONE),
        ("events", "/admin/events?status=EXHAUSTED".to_owned(), Look::DESK),
        ("event", format!("/admin/events/{}", shop.event), Look::DESK),
        ("alerts", "/admin/alerts".to_owned(), Look::DESK),
        ("alerts-dark", "/admin/alerts".to_owned(), Look::DESK.dark()),
    ];
    for (name, path, look) in views {
        desk.window.look(look).await.expect("a look can be changed");
        desk.visit(&path).await;
        desk.picture(name).await;
    }
    desk.leave().await;
}
