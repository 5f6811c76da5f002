//! Ten thousand events that gave up are sent again together, and a few that somebody chose.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::DbError;
use engine::inbox::quarantine::{self, QuarantineRow};
use serde_json::json;
use stockloop_tests::browser::WindowOptions;
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use super::fixture::BrowserFixture;
use crate::system::{DEADLINE, TestService, http_client};

const EVENTS: usize = 10_000;
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_are_sent_again() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    let product = &fixture.system.product;
    quarantine_all(&fixture.system.order).await;
    put_all(product).await;
    let exhausted = BTreeMap::from([("EXHAUSTED".to_owned(), 10_000)]);
    eventually("all events to give up", DEADLINE, async || {
        let open = product.open_events().await.map_err(|error| error.to_string())?;
        if open == exhausted { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    release_all(&fixture.system.order).await;

    fixture.visit("/admin/events?status=EXHAUSTED").await;
    fixture.window.press("Retry all that match").await;
    fixture.window.expect_text("10,000").await;
    fixture.window.fill("Reason", "the shelf was counted").await;
    fixture.window.press("Retry 10,000 events").await;
    let job = expect_progress(&fixture).await;
    fixture.window.expect_text("10,000 done").await;
    let told = product.get(&format!("/api/admin/v1/jobs/{job}")).await.ok();
    assert_eq!((&told["state"], &told["done"]), (&json!("done"), &json!(EVENTS)), "{told}");
    assert_eq!((&told["skipped"], &told["expected"]), (&json!(0), &json!(EVENTS)), "{told}");

    fixture.system.wait_until_settled().await;
    fixture.system.assert_equal_at_rest().await;
    // Nothing vanished: what was sent again is found by its job.
    fixture.visit(&format!("/admin/events?job={job}")).await;
    fixture.window.expect_text("PROCESSED").await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_left_and_told() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    let product = &fixture.system.product;
    for sku in ["TEA", "MUG", "CAKESTAND"] {
        fixture.exhaust(sku, "the shelf is being counted").await;
        fixture.system.order.release(sku).await;
    }
    fixture.visit("/admin/events?status=EXHAUSTED").await;
    fixture.window.click("tr[data-key=TEA] input[type=checkbox]").await;
    fixture.window.click("tr[data-key=MUG] input[type=checkbox]").await;
    fixture.window.expect_text("2 selected").await;
    fixture.window.press("Retry selected").await;
    fixture.window.expect_text("Retry 2 events?").await;
    // Somebody else is quicker.
    let event = product.newest_event("MUG").await;
    product.post(&format!("/api/admin/v1/events/{event}/retry"), json!({})).await.ok();
    fixture.window.press("Retry 2 events").await;
    fixture.window.expect_text("1 done, 1 skipped, of 2 expected").await;
    fixture.window.reload().await;
    fixture.window.expect_text("Skipped events").await;
    fixture.window.press(&event).await;
    fixture.window.expect_text("MUG").await;
    eventually("all but the third to be PROCESSED", DEADLINE, async || {
        let open = product.open_events().await.map_err(|error| error.to_string())?;
        if open.values().sum::<i64>() == 1 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    fixture.close().await;
}

/// Waits until the page of the new job says that a part is done, and returns the job's number.
async fn expect_progress(fixture: &BrowserFixture) -> String {
    let path = eventually("the job's page", DEADLINE, async || {
        let path = fixture.window.path().await;
        // The page that asks lies below the same path.
        let number = path.strip_prefix("/admin/jobs/").unwrap_or_default();
        if number.starts_with(|c: char| c.is_ascii_digit()) { Ok(path) } else { Err(path) }
    })
    .await;
    let job = path.trim_start_matches("/admin/jobs/").split('?').next().unwrap_or_default();
    eventually("progress", DEADLINE, async || {
        let value = fixture.window.run("return document.querySelector('progress')?.value").await;
        let value = value.expect("a number or nothing");
        if value.as_f64().is_some_and(|value| value > 0.0) { Ok(()) } else { Err(value) }
    })
    .await;
    fixture.screenshot("job").await;
    job.to_owned()
}

async fn quarantine_all(order: &TestService) {
    let database = order.database();
    let held = database.write(|conn| {
        for sku in 0..EVENTS {
            let row = QuarantineRow {
                key: name(sku),
                reason: "the shelf is being counted".to_owned(),
                since_us: Timestamp::from_micros(0),
                by_whom: "the test".to_owned(),
            };
            quarantine::put(conn, &row)?;
        }
        Ok::<_, DbError>(())
    });
    held.await.expect("keys can be held");
}

async fn release_all(order: &TestService) {
    let database = order.database();
    let released = database.write(|conn| {
        for sku in 0..EVENTS {
            quarantine::release(conn, &name(sku))?;
        }
        Ok::<_, DbError>(())
    });
    released.await.expect("keys can be released");
}

async fn put_all(product: &TestService) {
    let (http, base_url) = (http_client(CLIENTS), product.base_url.get());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (http, base_url) = (http.clone(), base_url.clone());
        clients.spawn(async move {
            for sku in (client..EVENTS).step_by(CLIENTS) {
                let body = json!({"description": "Mug", "quantity": 12, "unit_price_minor": 255});
                let url = format!("{base_url}/api/v1/inventory/{}", name(sku));
                let answer = http.put(url).json(&body).send().await.expect("an answer");
                assert!(answer.status().is_success(), "{answer:?}");
            }
        });
    }
    clients.join_all().await;
}

fn name(sku: usize) -> String {
    format!("MUG-{sku:05}")
}
