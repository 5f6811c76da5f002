//! From the mail to the event; and what others wrote stays text, in the mail and on every page.

use std::path::Path;

use mail_parser::MessageParser;
use reqwest::Method;
use serde_json::{Value, json};
use stockloop_tests::browser::WindowOptions;
use stockloop_tests::poll::eventually;
use stockloop_tests::ports::free_port;
use stockloop_tests::process::{Child, Launch, built_binary};
use stockloop_tests::real;

use super::fixture::{ADMIN, BrowserFixture, PASSWORD};
use crate::system::{DEADLINE, segment};

/// What would run if a page took it for HTML.
const EVIL_SKU: &str = "<img src=x onerror=document.title=1>";
const EVIL_REASON: &str = "<script>document.title=1</script><b>bold</b> & </td>";

/// A mail's two parts.
struct MailParts {
    subject: String,
    text: String,
    html: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_in_the_mail_leads_to_its_event() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    fixture.window.press("Sign out").await;
    let event = fixture.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    let mail = mail_about(&fixture, "TEA").await;
    let page = format!("/admin/events/{id}");
    let link = format!("{}{page}", fixture.system.product.base_url.get());
    assert!(mail.text.contains(&link), "{}", mail.text);
    // As a mail program shows it.
    fixture.window.visit(&data_url(&mail.html)).await;
    fixture.window.click(&format!("a[href='{link}']")).await;
    fixture.window.expect_path("/admin/login").await;
    fixture.sign_in(ADMIN, PASSWORD).await;
    fixture.window.expect_path(&page).await;
    fixture.window.expect_text("TEA").await;
    fixture.window.expect_text("the shelf is being counted").await;
    fixture.close().await;
}

/// All in one process, as somebody tries it out who has nothing installed.
#[tokio::test(flavor = "multi_thread")]
async fn the_mail_catcher_leads_to_the_event() {
    let Some(chromium) = real::chromium() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [product, order, mails] = [(); 3].map(|()| free_port().expect("a free port"));
    let _stockloop = tokio::task::block_in_place(|| dev(folder.path(), [product, order, mails]));
    let reason = json!({ "reason": "the shelf is being counted" });
    put(order, "/api/admin/v1/quarantine/TEA", reason).await;
    let tea = json!({ "description": "Tea", "quantity": 12, "unit_price_minor": 255 });
    put(product, "/api/v1/inventory/TEA", tea).await;

    let window = chromium.open(WindowOptions::DESKTOP).await.expect("a window can be opened");
    window.visit(&format!("http://127.0.0.1:{mails}/")).await;
    window.click("ul.mails a").await;
    window.expect_text("1 change has not arrived (SKU TEA)").await;
    window.follow_from_frame("a[href*='/admin/events/']").await;
    window.expect_text("EXHAUSTED").await;
    window.expect_text("the shelf is being counted").await;
    window.close().await;
}

/// `stockloop dev`, once it listens.
fn dev(folder: &Path, ports: [u16; 3]) -> Child {
    let [product, order, mails] = ports.map(|port| port.to_string());
    let mut child = Launch::new(built_binary("stockloop").expect("the program is built"))
        .args(["dev", "--product-port", &product, "--order-port", &order, "--mail-port", &mails])
        .folder(folder)
        .spawn()
        .expect("the program starts");
    child.wait_for_line("Ctrl-C stops", DEADLINE).expect("it listens");
    child
}

async fn put(port: u16, path: &str, body: Value) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let request = reqwest::Client::new().request(Method::PUT, url).json(&body);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 201, "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_stays_text() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    let event = fixture.exhaust(EVIL_SKU, EVIL_REASON).await;
    let id = event["id"].as_str().expect("an id");
    let mail = mail_about(&fixture, EVIL_SKU).await;
    assert!(mail.subject.contains(EVIL_SKU), "{}", mail.subject);
    fixture.window.visit(&data_url(&mail.html)).await;
    assert_text(&fixture, "the mail", &[EVIL_SKU, EVIL_REASON]).await;

    let event = format!("/admin/events/{id}");
    let search = format!("/admin/events?q={}", segment(EVIL_SKU));
    let pages: [(&str, &[&str]); 5] = [
        (&event, &[EVIL_SKU, EVIL_REASON]),
        ("/admin/events", &[EVIL_SKU]),
        (&search, &[EVIL_SKU]),
        ("/admin/alerts", &[EVIL_SKU]),
        ("/admin", &[]),
    ];
    for (path, words) in pages {
        fixture.visit(path).await;
        assert_text(&fixture, path, words).await;
    }
    fixture.close().await;
}

/// That the words are there as they are, and that nothing of them has become an element or has run.
async fn assert_text(fixture: &BrowserFixture, place: &str, words: &[&str]) {
    for words in words {
        fixture.window.expect_text(words).await;
    }
    assert!(!fixture.window.has("img[src=x], b b").await, "{place} took text for elements");
    let scripts =
        "return [...document.scripts].some(script => script.text.includes('document.title'))";
    assert_eq!(fixture.window.run(scripts).await.expect("a truth"), false, "{place}");
    assert_ne!(fixture.window.title().await, "1", "{place} ran a script");
}

/// The mail whose text names `sku`.
async fn mail_about(fixture: &BrowserFixture, sku: &str) -> MailParts {
    eventually(&format!("a mail about {sku}"), DEADLINE, async || {
        let mails: Vec<MailParts> =
            fixture.system.mails.mails().iter().map(|mail| parts(&mail.raw)).collect();
        let texts: Vec<_> = mails.iter().map(|mail| mail.text.clone()).collect();
        mails.into_iter().find(|mail| mail.text.contains(sku)).ok_or(texts)
    })
    .await
}

fn parts(raw: &[u8]) -> MailParts {
    let mail = MessageParser::default().parse(raw).expect("a mail");
    let whole = |part: Option<std::borrow::Cow<'_, str>>| part.expect("a part").into_owned();
    MailParts {
        subject: mail.subject().expect("a subject").to_owned(),
        text: whole(mail.body_text(0)),
        html: whole(mail.body_html(0)),
    }
}

/// The address of a page that consists of `html`.
fn data_url(html: &str) -> String {
    format!("data:text/html;charset=utf-8,{}", segment(html))
}
