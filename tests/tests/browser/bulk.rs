//! Ten thousand events that gave up are sent again together, and a few that somebody chose.

use common::clock::Timestamp;
use common::db::DbError;
use common::inbox::quarantine::{self, QuarantineRow};
use serde_json::json;
use stockloop_tests::browser::Look;
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use super::desk::{Desk, given_up};
use crate::stage::{PATIENCE, Service};

const EVENTS: usize = 10_000;
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_are_sent_again() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    let product = &desk.stage.product;
    hold_all(&desk.stage.order).await;
    put_all(product).await;
    eventually("all events to give up", PATIENCE, async || {
        let waiting = given_up(product).await;
        if waiting == 10_000 { Ok(()) } else { Err(waiting) }
    })
    .await;
    release_all(&desk.stage.order).await;

    desk.visit("/admin/events?status=EXHAUSTED").await;
    desk.window.press("Retry all that match").await;
    desk.window.sees("10,000").await;
    desk.window.fill("Reason", "the shelf was counted").await;
    desk.window.press("Retry 10,000 events").await;
    let job = seen_working(&desk).await;
    desk.window.sees("10,000 done").await;
    let told = product.get(&format!("/api/admin/v1/jobs/{job}")).await.ok();
    assert_eq!((&told["state"], &told["done"]), (&json!("done"), &json!(EVENTS)), "{told}");
    assert_eq!((&told["skipped"], &told["expected"]), (&json!(0), &json!(EVENTS)), "{told}");

    desk.stage.settled().await;
    desk.stage.assert_equal_at_rest().await;
    // Nothing vanished: what was sent again is found by its job.
    desk.visit(&format!("/admin/events?job={job}")).await;
    desk.window.sees("PROCESSED").await;
    desk.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_left_and_told() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    let product = &desk.stage.product;
    for sku in ["TEA", "MUG", "CAKESTAND"] {
        desk.exhaust(sku, "the shelf is being counted").await;
        desk.release(sku).await;
    }
    desk.visit("/admin/events?status=EXHAUSTED").await;
    desk.window.click("tr[data-key=TEA] input[type=checkbox]").await;
    desk.window.click("tr[data-key=MUG] input[type=checkbox]").await;
    desk.window.sees("2 selected").await;
    desk.window.press("Retry selected").await;
    desk.window.sees("Retry 2 events?").await;
    // Somebody else is quicker.
    let events = product.get("/api/admin/v1/events?key=MUG").await.ok();
    let event = events["items"][0]["id"].as_str().expect("an id");
    product.post(&format!("/api/admin/v1/events/{event}/retry"), json!({})).await.ok();
    desk.window.press("Retry 2 events").await;
    desk.window.sees("1 done, 1 left as they are, of 2 that were said").await;
    desk.window.reload().await;
    desk.window.sees("Left as they are").await;
    desk.window.press(event).await;
    desk.window.sees("MUG").await;
    eventually("all but the third to be PROCESSED", PATIENCE, async || {
        let open = product.open_events().await.map_err(|error| error.to_string())?;
        if open.values().sum::<i64>() == 1 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    desk.leave().await;
}

/// Waits until the page of the new job says that a part is done, and returns the job's number.
async fn seen_working(desk: &Desk) -> String {
    let path = eventually("the job's page", PATIENCE, async || {
        let path = desk.window.path().await;
        if path.starts_with("/admin/jobs/") { Ok(path) } else { Err(path) }
    })
    .await;
    let job = path.trim_start_matches("/admin/jobs/").split('?').next().unwrap_or_default();
    eventually("progress", PATIENCE, async || {
        let value = desk.window.run("return document.querySelector('progress')?.value").await;
        let value = value.expect("a number or nothing");
        if value.as_f64().is_some_and(|value| value > 0.0) { Ok(()) } else { Err(value) }
    })
    .await;
    desk.picture("job").await;
    job.to_owned()
}

async fn hold_all(order: &Service) {
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

async fn release_all(order: &Service) {
    let database = order.database();
    let released = database.write(|conn| {
        for sku in 0..EVENTS {
            quarantine::release(conn, &name(sku))?;
        }
        Ok::<_, DbError>(())
    });
    released.await.expect("keys can be released");
}

async fn put_all(product: &Service) {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (http, base) = (product.http.clone(), product.base.get());
        clients.spawn(async move {
            for sku in (client..EVENTS).step_by(CLIENTS) {
                let body = json!({"description": "Mug", "quantity": 12, "unit_price_minor": 255});
                let url = format!("{base}/api/v1/inventory/{}", name(sku));
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
