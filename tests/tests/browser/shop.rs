//! A shop at work, with all that operators have to do with.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use super::desk::Desk;
use crate::stage::PATIENCE;
use crate::stage::random::Random;
use crate::stage::topics::{Raw, Topics};

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
const HELD: [(&str, &str); 3] = [
    ("22423", "the shelf is being counted"),
    ("47566", "two of the copies disagree"),
    ("22720", "the shelf is being counted"),
];

/// Pages with something on them.
pub(super) struct Shop {
    pub(super) event: String,
    pub(super) job: String,
    pub(super) alert: String,
    pub(super) dead_letter: String,
}

impl Shop {
    /// Trades for a while, and leaves a little of everything to do.
    pub(super) async fn at_work(desk: &Desk, trade_for: Duration) -> Self {
        for (sku, description) in GOODS {
            put(desk, sku, description).await;
        }
        trade(desk, trade_for / 2, |_| true).await;
        let event = fail(desk).await;
        trade(desk, trade_for / 2, |sku| HELD.iter().all(|(held, _)| sku != *held)).await;
        let (job, alert) = (work_off(desk).await, look_after_alerts(desk).await);
        let dead_letter = bury(desk).await;
        tell_the_relay(desk).await;
        Self { event, job, alert, dead_letter }
    }
}

async fn put(desk: &Desk, sku: &str, description: &str) {
    let body = json!({"description": description, "quantity": 1_000_000, "unit_price_minor": 255});
    desk.stage.product.put(&format!("/api/v1/inventory/{sku}"), body).await.ok();
}

/// Sales of what is sold, now more and now fewer of them.
async fn trade(desk: &Desk, trade_for: Duration, is_sold: impl Fn(&str) -> bool) {
    let goods: Vec<_> = GOODS.iter().map(|(sku, _)| *sku).filter(|sku| is_sold(sku)).collect();
    let began = Instant::now();
    let mut random = Random::seeded(6);
    while began.elapsed() < trade_for {
        let customers = 1 + random.below(40);
        for _ in 0..customers {
            let sku = goods[usize::try_from(random.next()).expect("64 bits") % goods.len()];
            let pieces = i64::try_from(1 + random.below(9)).expect("few");
            desk.stage.product.adjust(sku, -pieces).await;
        }
        tokio::time::sleep(Duration::from_millis(50 + random.below(900))).await;
    }
}

/// Lets some changes fail; returns one event that gave up.
async fn fail(desk: &Desk) -> String {
    let product = &desk.stage.product;
    for (sku, reason) in HELD {
        desk.hold(sku, reason).await;
        product.adjust(sku, -3).await;
        product.adjust(sku, -1).await;
    }
    eventually("events that gave up", PATIENCE, async || {
        let list = product.get("/api/admin/v1/events?status=EXHAUSTED").await.ok();
        let events = list["items"].as_array().map_or(0, Vec::len);
        if events >= 2 * HELD.len() { Ok(text(&list["items"][0]["id"])) } else { Err(list) }
    })
    .await
}

/// Mends one fault and sends its events again; returns the job.
async fn work_off(desk: &Desk) -> String {
    let (held, _) = HELD[2];
    desk.release(held).await;
    let job = json!({
        "action": "retry",
        "selection": {"filter": {"status": "EXHAUSTED", "key": held}},
        "reason": "the shelf was counted",
        "expected": 2,
    });
    let job = text(&desk.stage.product.post("/api/admin/v1/jobs", job).await.ok()["seq"]);
    eventually("the job's end", PATIENCE, async || {
        let told = desk.stage.product.get(&format!("/api/admin/v1/jobs/{job}")).await.ok();
        if told["state"] == "done" { Ok(()) } else { Err(told) }
    })
    .await;
    job
}

/// Sees to one alert and silences a key; returns the alert.
async fn look_after_alerts(desk: &Desk) -> String {
    let product = &desk.stage.product;
    let (held, _) = HELD[0];
    let alerts = product.get(&format!("/api/admin/v1/alerts?key={held}")).await.ok();
    let alert = text(&alerts["items"][0]["seq"]);
    product.post(&format!("/api/admin/v1/alerts/{alert}/acknowledge"), json!({})).await.ok();
    let silence = json!({"key": "22197", "reason": "moves to another shelf", "for_seconds": 3_600});
    product.post("/api/admin/v1/silences", silence).await.ok();
    alert
}

/// Puts bytes on the ack topic that nobody can read; returns the dead letter.
async fn bury(desk: &Desk) -> String {
    let topics = &desk.stage.topics;
    let raw = Raw { headers: Vec::new(), payload: Some(b"\x00\xff<b>not an ack</b>".to_vec()) };
    Topics::send(&topics.producer(), topics.acks(), 0, &raw).await;
    eventually("a dead letter", PATIENCE, async || {
        let list = desk.stage.product.get("/api/admin/v1/dead-letters").await.ok();
        let letter = &list["items"][0]["seq"];
        if letter.is_null() { Err(list) } else { Ok(text(letter)) }
    })
    .await
}

async fn tell_the_relay(desk: &Desk) {
    let product = &desk.stage.product;
    let reason = json!({"reason": "its price is being changed"});
    product.put("/api/admin/v1/pauses/22457", reason.clone()).await.ok();
    product.put("/api/admin/v1/quarantine/4711", reason).await.ok();
    product
        .post("/api/admin/v1/tokens", json!({"name": "nightly report", "role": "viewer"}))
        .await
        .ok();
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
