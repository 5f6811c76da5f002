use common::on;
use common::schema::resync_job;
use diesel::prelude::*;
use engine::bulk::JobState;
use engine::resync::{self, NewResync, ResyncKind};
use engine::verify::{Finding, State};
use stockloop_tests::on_every_database;

use super::Site;
use crate::access::Role;

on_every_database!(Site::new =>
    the_page_says_what_differs_and_since_when,
    a_repair_is_asked_for_before_it_is_made,
    a_replay_counts_states_and_is_at_a_version,
    a_replay_into_a_topic_says_where_to_and_what_hinders_it,
    a_verification_is_started_and_cancelled,
    who_owns_nothing_says_who_does,
);

/// The content of a page, without what is around it.
fn content(html: &str) -> &str {
    let begin = html.find("<main").unwrap();
    &html[begin..html.find("</main>").unwrap()]
}

async fn the_page_says_what_differs_and_since_when(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    site.get("/admin/proof", &cookie).await.shows("order-service was never verified to the end.");
    site.fixture.verified(State::Equal, &[]).await;
    site.get("/admin/proof", &cookie).await.shows("<strong>Yes.</strong> It had 41 keys");
    let found =
        [("TEA", Finding::Missing), ("MUG\u{200b}", Finding::Older), ("POT", Finding::Waiting)];
    let seq = site.fixture.verified(State::Different, &found).await;
    let page = site.get("/admin/proof", &cookie).await;
    insta::assert_snapshot!("proof", content(&page.html));
    page.shows("<strong>Not for every key.</strong> 2 keys of 41 differed");
    page.shows(&format!("/admin/proof/{seq}/repair"));
    page.shows(r#"<a href="/admin/events?key=TEA">TEA</a>"#);
    page.shows(r#"<a href="/admin/proof" aria-current="page">Proof"#);
    let run = site.get(&format!("/admin/proof/{seq}"), &cookie).await;
    insta::assert_snapshot!("verification", content(&run.html));
    run.shows(&format!("/api/admin/v1/verifications/{seq}/differences/export?format=csv"));
    let waiting = site.get(&format!("/admin/proof/{seq}?waiting=true"), &cookie).await;
    waiting.shows("its event is open");
    waiting.shows("differences/export?format=csv&#38;waiting=true");
    let viewer = site.signed_in(Role::Viewer).await;
    site.get("/admin/proof", &viewer).await.shows_not("Verify now");
    site.get(&format!("/admin/proof/{seq}"), &viewer).await.shows_not("/repair");
}

async fn a_repair_is_asked_for_before_it_is_made(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let found = [("TEA", Finding::Missing), ("MUG", Finding::Older)];
    let seq = site.fixture.verified(State::Different, &found).await;
    let path = format!("/admin/proof/{seq}/repair");
    let asked = site.get(&path, &cookie).await;
    asked.shows("<h1>Repair 2 keys?</h1>");
    asked.shows("<li>1 missing in the copy</li><li>1 older in the copy</li>");
    let fields = |expected| [("expected", expected), ("reason", "a disk was full")];
    let other = site.post(&path, &cookie, &fields("3")).await;
    assert_eq!(other.status, 409);
    other.shows("found 2 differences, not 3");
    other.shows("a disk was full");
    let made = site.post(&path, &cookie, &fields("2")).await;
    assert_eq!(made.leads_to(), "/admin/resyncs/1");
    let job = site.get("/admin/resyncs/1", &cookie).await;
    insta::assert_snapshot!("resync", content(&job.html));
    assert_eq!(
        site.post("/admin/resyncs/1/cancel", &cookie, &[]).await.leads_to(),
        "/admin/resyncs/1?done=resync-cancelled"
    );
    let ended = site.get("/admin/resyncs/1?done=resync-cancelled", &cookie).await;
    ended.shows("cancelled by operator");
    assert_eq!(site.post("/admin/resyncs/1/cancel", &cookie, &[]).await.status, 409);
    site.get("/admin/proof", &cookie).await.shows("/admin/resyncs/1");
    let equal = site.fixture.verified(State::Equal, &[]).await;
    let none = site.get(&format!("/admin/proof/{equal}/repair"), &cookie).await;
    none.shows("there is nothing to repair");
}

/// A replay under way.
fn replay(site: &Site, selection: &str) -> NewResync {
    NewResync {
        kind: ResyncKind::Replay,
        selection: selection.to_owned(),
        reason: None,
        state: JobState::Running,
        expected: None,
        created_us: site.fixture.env.now(),
        created_by: "ada".to_owned(),
        created_via: "session".to_owned(),
    }
}

async fn a_replay_counts_states_and_is_at_a_version(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let job = replay(&site, r#"{"kept":{"consumer":"order-service","keys":["TEA"]}}"#);
    site.fixture
        .write(move |conn| {
            let seq = resync::insert(conn, &job)?;
            let at =
                (resync_job::done.eq(9_i64), resync_job::cursor.eq(r#"{"key":"TEA","version":9}"#));
            on!(conn, c => diesel::update(resync_job::table.find(seq)).set(at).execute(c))
        })
        .await;
    let page = site.get("/admin/resyncs/1", &cookie).await;
    page.shows(r#"<span data-field="done">9</span> states sent again"#);
    page.shows(r#"<code data-field="place">TEA, version 9</code>"#);
}

async fn a_replay_into_a_topic_says_where_to_and_what_hinders_it(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let job = replay(&site, r#"{"kept":{"into":"views.stock","keys":["TEA"]}}"#);
    site.fixture
        .write(move |conn| {
            let seq = resync::insert(conn, &job)?;
            let cursor = r#"{"key":"","hindered":"the topic views.stock does not exist"}"#;
            let at = resync_job::cursor.eq(cursor);
            on!(conn, c => diesel::update(resync_job::table.find(seq)).set(at).execute(c))
        })
        .await;
    let page = site.get("/admin/resyncs/1", &cookie).await;
    page.shows("what is kept of TEA, into the topic views.stock");
    page.shows(r#"<p data-field="hindered">the topic views.stock does not exist</p>"#);
    page.shows(r#"<code data-field="place"></code>"#);
}

async fn a_verification_is_started_and_cancelled(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let fields = [("consumer", "order-service"), ("share", "0.2")];
    let started = site.post("/admin/proof", &cookie, &fields).await;
    assert_eq!(started.leads_to(), "/admin/proof/1?done=verification-started");
    let shown = site.get(started.leads_to(), &cookie).await;
    shown.shows("The verification has started");
    shown.shows("progress.js");
    let again = site.post("/admin/proof", &cookie, &fields).await;
    assert_eq!(again.status, 409);
    again.shows("verification 1 of order-service is under way, by operator");
    let early = site.post("/admin/proof/1/repair", &cookie, &[("expected", "1")]).await;
    assert_eq!(early.status, 409);
    early.shows("is not at its end");
    let cancelled = site.post("/admin/proof/1/cancel", &cookie, &[]).await;
    assert_eq!(cancelled.leads_to(), "/admin/proof/1?done=verification-cancelled");
    let shown = site.get(cancelled.leads_to(), &cookie).await;
    shown.shows("cancelled by operator");
    shown.shows_not("progress.js");
    assert_eq!(site.post("/admin/proof/1/cancel", &cookie, &[]).await.status, 409);
    assert_eq!(site.post("/admin/proof", &cookie, &[("share", "2")]).await.status, 422);
}

async fn who_owns_nothing_says_who_does(mut site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    site.fixture = site.fixture.owning_nothing();
    let page = site.get("/admin/proof", &cookie).await;
    assert_eq!(page.status, 200);
    page.shows("order-service owns what product-service has a copy of");
    page.shows_not(">Proof</a>");
    assert_eq!(site.get("/admin/proof/1", &cookie).await.status, 404);
    assert_eq!(site.post("/admin/proof", &cookie, &[]).await.status, 404);
}
