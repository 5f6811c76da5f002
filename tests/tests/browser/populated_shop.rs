//! A shop at work, with all that operators have to do with.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use super::fixture::BrowserFixture;
use crate::system::random::Random;
use crate::system::topics::{RawMessage, Topics};
use crate::system::{DEADLINE, text};

/// Products of the shop whose sales lines the demo plays.
const GOODS: [(&str, &str); 12] = [
    ("85123A", "White hanging heart t-light holder"),
    ("22423", "Regency cakestand 3 tier"),
    ("85099B", "Jumbo bag red retrospot"),
    ("47566", "Party bunting"),
    ("20725", "Lunch bag red retrospot"),
    ("84879", "Assorted colour bird ornament"),
    ("22720", "Set of 3 cake tins pantry design"),
    ("22197", "Small popcorn holder"),
    ("21212", "Pack of 72 retrospot cake cases"),
    ("22383", "Lunch bag suki design"),
    ("20727", "Lunch bag black skull"),
    ("22457", "Natural slate heart chalkboard"),
];
/// Those that order-service refuses for a while, and why.
const QUARANTINED: [(&str, &str); 3] = [
    ("22423", "the shelf is being counted"),
    ("47566", "two of the copies disagree"),
    ("22720", "the shelf is being counted"),
];

/// Pages with something on them.
pub(super) struct PopulatedShop {
    pub(super) event: String,
    pub(super) job: String,
    pub(super) alert: String,
    pub(super) dead_letter: String,
    pub(super) verification: String,
    pub(super) resync: String,
}

impl PopulatedShop {
    /// Trades for a while, and leaves a little of everything to do.
    pub(super) async fn create(fixture: &BrowserFixture, trade_for: Duration) -> Self {
        for (sku, description) in GOODS {
            put_product(fixture, sku, description).await;
        }
        trade(fixture, trade_for / 2, |_| true).await;
        let event = exhaust_some(fixture).await;
        trade(fixture, trade_for / 2, |sku| {
            QUARANTINED.iter().all(|(quarantined, _)| sku != *quarantined)
        })
        .await;
        let (job, alert) = (retry_in_bulk(fixture).await, acknowledge_and_silence(fixture).await);
        let dead_letter = send_unreadable_ack(fixture).await;
        pause_a_key_and_make_a_token(fixture).await;
        let resync = send_again(fixture).await;
        let verification = find_what_was_done_by_hand(fixture).await;
        Self { event, job, alert, dead_letter, verification, resync }
    }
}

async fn put_product(fixture: &BrowserFixture, sku: &str, description: &str) {
    let body = json!({"description": description, "quantity": 1_000_000, "unit_price_minor": 255});
    fixture.system.product.put(&format!("/api/v1/inventory/{sku}"), body).await.ok();
}

/// Sales of what is sold, now more and now fewer of them.
async fn trade(fixture: &BrowserFixture, trade_for: Duration, is_sold: impl Fn(&str) -> bool) {
    let goods: Vec<_> = GOODS.iter().map(|(sku, _)| *sku).filter(|sku| is_sold(sku)).collect();
    let began = Instant::now();
    let mut random = Random::seeded(6);
    while began.elapsed() < trade_for {
        let customers = 1 + random.below(40);
        for _ in 0..customers {
            let sku = goods[usize::try_from(random.next()).expect("64 bits") % goods.len()];
            let pieces = i64::try_from(1 + random.below(9)).expect("few");
            fixture.system.product.adjust(sku, -pieces).await;
        }
        tokio::time::sleep(Duration::from_millis(50 + random.below(900))).await;
    }
}

/// Lets some changes fail; returns one event that gave up.
async fn exhaust_some(fixture: &BrowserFixture) -> String {
    let product = &fixture.system.product;
    for (sku, reason) in QUARANTINED {
        fixture.system.order.quarantine(sku, reason).await;
        product.adjust(sku, -3).await;
        product.adjust(sku, -1).await;
    }
    text(&product.wait_for_exhausted(2 * QUARANTINED.len()).await[0]["id"])
}

/// Releases one key and sends its events again; returns the job.
async fn retry_in_bulk(fixture: &BrowserFixture) -> String {
    let (sku, _) = QUARANTINED[2];
    fixture.system.order.release(sku).await;
    let job = json!({
        "action": "retry",
        "selection": {"filter": {"status": "EXHAUSTED", "key": sku}},
        "reason": "the shelf was counted",
        "expected": 2,
    });
    let job = text(&fixture.system.product.post("/api/admin/v1/jobs", job).await.ok()["seq"]);
    eventually("the job's end", DEADLINE, async || {
        let told = fixture.system.product.get(&format!("/api/admin/v1/jobs/{job}")).await.ok();
        if told["state"] == "done" { Ok(()) } else { Err(told) }
    })
    .await;
    job
}

/// Sees to one alert and silences a key; returns the alert.
async fn acknowledge_and_silence(fixture: &BrowserFixture) -> String {
    let product = &fixture.system.product;
    let (sku, _) = QUARANTINED[0];
    let alerts = product.get(&format!("/api/admin/v1/alerts?key={sku}")).await.ok();
    let alert = text(&alerts["items"][0]["seq"]);
    product.post(&format!("/api/admin/v1/alerts/{alert}/acknowledge"), json!({})).await.ok();
    let silence = json!({"key": "22197", "reason": "moves to another shelf", "for_seconds": 3_600});
    product.post("/api/admin/v1/silences", silence).await.ok();
    alert
}

/// Sends bytes to the ack topic that nobody can read; returns the dead letter.
async fn send_unreadable_ack(fixture: &BrowserFixture) -> String {
    let topics = &fixture.system.topics;
    let message =
        RawMessage { headers: Vec::new(), payload: Some(b"\x00\xff<b>not an ack</b>".to_vec()) };
    Topics::send(&topics.producer(), topics.acks(), 0, &message).await;
    eventually("a dead letter", DEADLINE, async || {
        let list = fixture.system.product.get("/api/admin/v1/dead-letters").await.ok();
        let letter = &list["items"][0]["seq"];
        if letter.is_null() { Err(list) } else { Ok(text(letter)) }
    })
    .await
}

/// Sends two states again, of which nobody has one; returns the job.
async fn send_again(fixture: &BrowserFixture) -> String {
    let job = json!({"kind": "resync", "selection": {"keys": ["85123A", "NOT-HERE"]}});
    ended(fixture, "resyncs", job).await
}

/// Works in the copy by hand; returns the verification that finds it, after one that found nothing.
async fn find_what_was_done_by_hand(fixture: &BrowserFixture) -> String {
    fixture.system.order.wait_until_complete().await;
    ended(fixture, "verifications", json!({})).await;
    fixture
        .system
        .order
        .execute(
            "UPDATE product_copy SET quantity = quantity + 5 WHERE sku = '22197'; \
             DELETE FROM product_copy WHERE sku = '21212'; \
             INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             VALUES ('TEST-1', 'Only a trial', 1, 100, 1, 1, 1, 1)",
        )
        .await;
    ended(fixture, "verifications", json!({})).await
}

/// Asks for something that takes a while, and waits for its end; returns its number.
async fn ended(fixture: &BrowserFixture, list: &str, body: Value) -> String {
    let product = &fixture.system.product;
    let seq = text(&product.post(&format!("/api/admin/v1/{list}"), body).await.ok()["seq"]);
    product.wait_for_end(&format!("/api/admin/v1/{list}/{seq}")).await;
    seq
}

async fn pause_a_key_and_make_a_token(fixture: &BrowserFixture) {
    let product = &fixture.system.product;
    let reason = json!({"reason": "its price is being changed"});
    product.put("/api/admin/v1/pauses/22457", reason.clone()).await.ok();
    product.put("/api/admin/v1/quarantine/4711", reason).await.ok();
    product
        .post("/api/admin/v1/tokens", json!({"name": "nightly report", "role": "viewer"}))
        .await
        .ok();
}
