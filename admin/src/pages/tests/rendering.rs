use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::test::TestRequest;
use common::telemetry::{Heals, TopicReport, Trouble};
use engine::alerts::{NewAlert, raise};
use engine::kafka::Record;
use engine::verify::{Finding, State};
use stockloop_tests::on_every_database;

use super::{PageResponse, Site};
use crate::access::Role;
use crate::api::tests::Is;
use crate::pages::assets;

on_every_database!(Site::new =>
    every_page_is_shown_to_every_role,
    what_others_wrote_stays_text,
    what_is_invisible_is_written_out,
    files_are_kept_by_browsers,
    unknown_addresses_are_pages_too,
    the_overview_answers_the_question,
    what_is_wrong_at_the_broker_is_shown,
    the_copy_of_a_view_is_shown,
    a_customers_last_purchases_are_shown,
);

/// What would run, or break out, if a page took it for HTML.
const EVIL: &str = r#"<script>alert(1)</script>"><img src=x onerror=alert(1)>"#;

/// Pages with something on each.
async fn pages(site: &Site) -> Vec<String> {
    let fixture = &site.fixture;
    let failed = fixture.event(EVIL, 1, Is::Exhausted).await;
    fixture.history(failed, 5, "FAILED", EVIL).await;
    let sent = fixture.event("TEA", 1, Is::Sent).await;
    let arrived = fixture.event("TEA", 2, Is::Processed).await;
    fixture.alerts(&["first", "second", EVIL]).await;
    fixture.dead_letter(7, EVIL.as_bytes().to_vec()).await;
    let found = [(EVIL, Finding::Older), ("TEA", Finding::Waiting)];
    let verification = fixture.verified(State::Different, &found).await;
    let job = fixture.sent_again(EVIL).await;
    let names = [
        "",
        "/events",
        "/events?status=EXHAUSTED",
        "/events?key=TEA",
        "/jobs",
        "/proof",
        "/restored",
        "/alerts",
        "/alerts/1",
        "/silences",
        "/mails",
        "/dead-letters",
        "/dead-letters/1",
        "/relay",
        "/purchases",
        "/quarantine",
        "/account",
    ];
    let events = [failed, sent, arrived].map(|id| format!("/admin/events/{id}"));
    let proof = [
        format!("/admin/proof/{verification}"),
        format!("/admin/proof/{verification}?waiting=true"),
        format!("/admin/resyncs/{job}"),
    ];
    names.iter().map(|name| format!("/admin{name}")).chain(events).chain(proof).collect()
}

async fn every_page_is_shown_to_every_role(site: Site) {
    let pages = pages(&site).await;
    for role in Role::ALL {
        let cookie = site.signed_in(role).await;
        let mut mine = pages.clone();
        if role >= Role::Operator {
            mine.extend(["/admin/audit".to_owned(), "/admin/proof/1/repair".to_owned()]);
        }
        if role == Role::Admin {
            mine.extend(["/admin/users".to_owned(), "/admin/tokens".to_owned()]);
        }
        for page in mine {
            let answer = site.get(&page, &cookie).await;
            assert_eq!(answer.status, 200, "{page} {answer:?}");
            is_proper(&page, &answer);
            answer.shows(&format!(r#"<span class="quiet">{}</span>"#, role.name()));
            // Forms that act are there for those who may use them; signing out is everybody's.
            let acts = answer.html.matches(r#"method="post""#).count();
            if role == Role::Viewer && page != "/admin/account" {
                assert_eq!(acts, 1, "{page}");
            }
        }
    }
    for page in ["/admin/login", "/admin/setup"] {
        let answer = site.get(page, "").await;
        assert_eq!(answer.status, 200);
        is_proper(page, &answer);
    }
}

async fn what_others_wrote_stays_text(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    for page in pages(&site).await {
        let answer = site.get(&page, &cookie).await;
        answer.shows_not("<script>");
        answer.shows_not("<img src=x");
    }
    let query = crate::pages::context::encoded(EVIL);
    for page in ["events?q=", "events?error_class=", "alerts?key=", "audit?who=", "relay?key="] {
        let answer = site.get(&format!("/admin/{page}{query}"), &cookie).await;
        assert_eq!(answer.status, 200);
        is_proper(page, &answer);
        answer.shows("&#60;script&#62;");
        answer.shows_not("<script>");
    }
    let refused = site.get(&format!("/admin/events?status={query}"), &cookie).await;
    assert_eq!(refused.status, 422);
    is_proper("a refusal", &refused);
    let unknown = site.get(&format!("/admin/{query}"), &cookie).await;
    assert_eq!(unknown.status, 404);
    is_proper("no page", &unknown);
    let code = site.get(&format!("/admin?done={query}"), &cookie).await;
    code.shows_not("alert(1)\"");
    is_proper("a code that nobody made", &code);
}

async fn what_is_invisible_is_written_out(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let event = site.fixture.event("TEA\u{200b}", 1, Is::Exhausted).await;
    for page in ["/admin/events".to_owned(), format!("/admin/events/{event}")] {
        site.get(&page, &cookie).await.shows(r">TEA\u{200b}");
    }
}

async fn what_is_wrong_at_the_broker_is_shown(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let broker = &site.fixture.engine.broker;
    let consumer = broker.consumer("inbox", "inventory", "order-service");
    consumer.received();
    let topic = |faults| TopicReport { topic: "acks".to_owned(), partitions: 1, faults };
    broker.note_topics(vec![topic(Vec::new())]);
    site.get("/admin", &cookie).await.shows_not("Receiving");
    let relay = site.get("/admin/relay", &cookie).await;
    for text in ["inbox", "inventory", "order-service", "1 partition<", ">fits<"] {
        relay.shows(text);
    }
    let trouble =
        Trouble { problem: "it may not read", advice: "allow it", heals: Heals::ByItself };
    consumer.failed(0, trouble, EVIL);
    broker.note_topics(vec![topic(vec!["it has 1 partitions".to_owned()])]);
    for page in ["/admin", "/admin/relay"] {
        let answer = site.get(page, &cookie).await;
        is_proper(page, &answer);
        for text in ["it may not read (&#60;script&#62;", "; allow it", "does not fit"] {
            answer.shows(text);
        }
    }
    site.get("/admin/relay", &cookie).await.shows("it has 1 partitions");
}

async fn the_copy_of_a_view_is_shown(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    site.get("/admin/relay", &cookie).await.shows_not("Copy of a view");
    let site = Site { fixture: site.fixture.copying_a_view() };
    let page = site.get("/admin/relay", &cookie).await;
    page.shows("<code>purchases</code>");
    page.shows("Nothing has been read yet.");
    let record =
        Record { topic: "purchases".to_owned(), partition: 3, offset: 4_320, ..Record::default() };
    let copy = site.fixture.engine.view.clone().unwrap();
    copy.run_once(Arc::new(vec![record])).await.unwrap();
    let page = site.get("/admin/relay", &cookie).await;
    is_proper("/admin/relay", &page);
    page.shows("4,321");
    let now = site.fixture.env.now().micros();
    let looked = format!("UPDATE view_position SET end_offset = 4321, checked_us = {now}");
    site.fixture.write(move |conn| conn.batch_execute(&looked)).await;
    site.get("/admin/relay", &cookie).await.shows(r#"<span class="badge good">current</span>"#);
    site.fixture.clock.advance(Duration::from_secs(61));
    let page = site.get("/admin/relay", &cookie).await;
    is_proper("/admin/relay", &page);
    page.shows("has not been known since");
    page.shows_not(r#"<span class="badge good">current</span>"#);
    page.shows_not("can’t be answered");
    let now = site.fixture.env.now();
    let alert = NewAlert::not_answered("order-service", "purchases", "acks", EVIL);
    assert!(site.fixture.write(move |conn| raise(conn, now, alert)).await);
    let page = site.get("/admin/relay", &cookie).await;
    is_proper("/admin/relay", &page);
    page.shows("can’t be answered");
    page.shows("&#60;script&#62;");
}

async fn a_customers_last_purchases_are_shown(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let link = r#"<a href="/admin/purchases" aria-current="page">Purchases</a>"#;
    let page = site.get("/admin/purchases?customer=17850", &cookie).await;
    assert_eq!(page.status, 200);
    page.shows("This service keeps no copy of the purchases.");
    page.shows_not(link);
    let site = Site { fixture: site.fixture.copying_a_view() };
    let ask = async |customer: &str| {
        let path = format!("/admin/purchases?customer={customer}");
        let page = site.get(&path, &cookie).await;
        is_proper(&path, &page);
        page
    };
    ask("").await.shows(link);
    let page = ask("17850").await;
    assert_eq!(page.status, 200, "{page:?}");
    for text in [
        "Last purchases of 17850<",
        "1970-01-01 00:00:01</time>",
        "1970-01-01 00:00:02</time>",
        "2010-12-01 08:26:00</time>",
        "&#60;b&#62;till",
        "536365",
        r#"<td class="number">1,530</td>"#,
        r#"6 × 85123A <span class="quiet">at 255</span></li>"#,
        r"o\u{200b}1",
        "1,000 × TEA</li>",
        "not known",
    ] {
        page.shows(text);
    }
    ask("NOBODY").await.shows("None is left");
    let evil = crate::pages::context::encoded(EVIL);
    for (customer, status, text) in [
        ("17851", 404, "the view has no customer &#34;17851&#34;"),
        ("178%0150", 422, "a customer must not hold control characters"),
        ("178%0050", 422, "it holds U+0000"),
        ("+", 422, "a customer must not be blank"),
        (evil.as_str(), 404, "&#60;script&#62;"),
    ] {
        let page = ask(customer).await;
        assert_eq!(page.status, status, "{customer}");
        page.shows(text);
        page.shows_not("Last purchases of");
        page.shows_not("<script>");
    }
}

async fn files_are_kept_by_browsers(site: Site) {
    for name in ["style.css", "page.js", "live.js", "job.js", "progress.js", "favicon.svg"] {
        let answer = site.get(&assets::address(name), "").await;
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.header(CACHE_CONTROL).contains("immutable"), "{name}");
        let tag = answer.header(ETAG).to_owned();
        let path = format!("/admin/assets/{name}");
        assert_eq!(site.get(&path, "").await.header(CACHE_CONTROL), "no-cache");
        let again = TestRequest::get().uri(&path).insert_header((IF_NONE_MATCH, tag));
        assert_eq!(site.ask(again, "").await.status, 304);
    }
    assert_eq!(site.get("/admin/assets/none.js", "").await.status, 404);
}

async fn unknown_addresses_are_pages_too(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let answer = site.get("/admin/nothing", &cookie).await;
    assert_eq!(answer.status, 404);
    is_proper("404", &answer);
    assert!(site.get("/admin/nothing", "").await.leads_to().starts_with("/admin/login"));
    assert_eq!(site.get("/admin/", &cookie).await.leads_to(), "/admin");
    let answer = site.get("/admin/events/nonsense", &cookie).await;
    assert_eq!(answer.status, 422);
    is_proper("422", &answer);
}

async fn the_overview_answers_the_question(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let fixture = &site.fixture;
    let answers = async |words: &[&str]| {
        fixture.sampler.run_once(&fixture.db, &fixture.env).await.unwrap();
        for page in ["/admin", "/admin/live"] {
            let answer = site.get(page, &cookie).await;
            words.iter().for_each(|words| answer.shows(words));
        }
    };
    answers(&["<strong>Yes.</strong>", "Every change has arrived at order-service."]).await;
    let sent = fixture.event("TEA", 1, Is::Sent).await;
    answers(&["<strong>Yes.</strong>", "1 event is on the way to order-service just now."]).await;
    fixture.clock.advance(std::time::Duration::from_secs(90));
    answers(&["<strong>It lags behind.</strong>", "the oldest for 1 min 30 s", &sent.to_string()])
        .await;
    fixture.event("MUG", 1, Is::Exhausted).await;
    fixture.event("CUP", 1, Is::Resolved).await;
    let hurts = r#"<b data-live="EXHAUSTED">1</b>"#;
    answers(&["<strong>Not for every key.</strong>", "1 event waits for a person", hurts]).await;
    fixture.clock.advance(std::time::Duration::from_secs(60));
    site.get("/admin", &cookie).await.shows("These counts are 1 min 0 s old");
}

/// What holds for every page: strict headers, nothing inline, and the bones that help everybody to find their way.
#[track_caller]
fn is_proper(page: &str, answer: &PageResponse) {
    assert!(answer.header(CONTENT_TYPE).starts_with("text/html"), "{page} {answer:?}");
    let policy = answer.header(CONTENT_SECURITY_POLICY);
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{page}"
    );
    assert!(!policy.contains("unsafe"), "{page}");
    assert_eq!(answer.header(X_CONTENT_TYPE_OPTIONS), "nosniff", "{page}");
    assert_eq!(answer.header(REFERRER_POLICY), "same-origin", "{page}");
    assert_eq!(answer.header(CACHE_CONTROL), "no-store", "{page}");
    for tag in tags(&answer.html) {
        let name = tag.split_whitespace().next().unwrap_or_default();
        assert!(name != "style", "{page}: {tag}");
        assert!(name != "script" || tag.contains(" src="), "{page}: {tag}");
        for attribute in tag.split_whitespace().skip(1) {
            assert!(
                !attribute.starts_with("style=") && !attribute.starts_with("on"),
                "{page}: {tag}"
            );
        }
    }
    assert_eq!(answer.html.matches("<h1").count(), 1, "{page}");
    for bone in [r#"<html lang="en">"#, "<main ", r##"href="#content""##, "<title>"] {
        answer.shows(bone);
    }
    let tables = answer.html.matches("<table").count();
    assert_eq!(answer.html.matches("<caption").count(), tables, "{page}");
    every_field_has_a_label(page, &answer.html);
}

/// The tags of a page without the values of their attributes: text has no `<` of its own.
fn tags(html: &str) -> Vec<String> {
    let tags = html.split('<').skip(1).map(|rest| {
        let mut quoted = false;
        let tag = rest.chars().take_while(|c| {
            quoted ^= *c == '"';
            quoted || *c != '>'
        });
        let tag: String = tag.collect();
        tag.split('"').step_by(2).collect::<Vec<_>>().join("")
    });
    tags.collect()
}

#[track_caller]
fn every_field_has_a_label(page: &str, html: &str) {
    for field in html.split("<input ").skip(1) {
        let field = field.split('>').next().unwrap();
        let id = field.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
        let labelled = id.is_some_and(|id| html.contains(&format!("<label for=\"{id}\"")));
        let hidden = field.contains("type=\"hidden\"") || field.contains("aria-label=");
        let inside = html
            .split("<label>")
            .skip(1)
            .any(|label| label.split("</label>").next().is_some_and(|label| label.contains(field)));
        assert!(labelled || hidden || inside, "{page}: <input {field}>");
    }
}
