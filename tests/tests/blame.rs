//! What is not an event's own fault costs it no attempt, whatever it looks like; it is told once, with its cause.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use uuid::Uuid;

use crate::system::{DEADLINE, TestSystem};

/// A text that no compression makes small.
fn noise(characters: usize) -> String {
    let text: String =
        (0..characters.div_ceil(32)).map(|_| Uuid::new_v4().simple().to_string()).collect();
    text[..characters].to_owned()
}

async fn put(system: &TestSystem, sku: &str, description: &str) {
    let body = json!({
        "description": description, "quantity": 1_000, "unit_price_minor": 1, "allow_backorder": false,
    });
    let answer = system.product.put(&format!("/api/v1/inventory/{sku}"), body).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

async fn adjust(system: &TestSystem, lines: Vec<Value>) {
    let answer = system.product.post("/api/v1/adjustments", json!({ "lines": lines })).await;
    assert!(answer.status.is_success() && answer.body["refused"] == 0, "{answer:?}");
}

/// A broker refuses a batch of small events whose sum is above the topic's limit.
#[tokio::test(flavor = "multi_thread")]
async fn small_events_pass_a_topic_with_a_small_limit() {
    let Some(system) = TestSystem::real("small_limit").await else { return };
    system.topics.limit(system.topics.events(), 20_000).await;
    put(&system, "TEA", &noise(300)).await;
    let line = |_| json!({"sku": "TEA", "delta": -1, "reason": noise(180), "reference": noise(60)});
    adjust(&system, (0..300).map(line).collect()).await;
    system.wait_until_settled().await;
    system.assert_no_attempt_was_lost().await;
    system.assert_nothing_gave_up().await;
    system.assert_equal_at_rest().await;
    system.stop().await;
}

/// One event that is too large for its topic gives up alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_large_event_spoils_none_beside_it() {
    let Some(system) = TestSystem::real("one_large").await else { return };
    put(&system, "LARGE", &noise(1_000)).await;
    for n in 0..20 {
        put(&system, &format!("SMALL-{n:02}"), "tea").await;
    }
    system.wait_until_settled().await;
    system.topics.limit(system.topics.events(), 1_100).await;
    let small =
        (0..20).map(|n| json!({"sku": format!("SMALL-{n:02}"), "delta": -1, "reason": "sale"}));
    let large = json!({"sku": "LARGE", "delta": -1, "reason": "sale"});
    adjust(&system, std::iter::once(large).chain(small).collect()).await;
    let exhausted = system.product.wait_for_exhausted_key("LARGE").await;
    assert!(exhausted["key"] == "LARGE", "{exhausted}");
    eventually("the small ones to arrive", DEADLINE, async || {
        match system.product.open_events().await {
            Ok(open) if open.get("EXHAUSTED") == Some(&1) && open.len() == 1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let others = "SELECT count(*) AS n FROM outbox_history h JOIN outbox_event e ON e.id = h.event_id \
                  WHERE e.key <> 'LARGE'";
    assert_eq!(system.product.count(others).await, 0, "{:?}", system.product.history().await);
    system.stop().await;
}

/// A table of the copy that is away is a fault of no event.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_copy_is_away_for_a_while() {
    let Some(system) = TestSystem::real("table_away").await else { return };
    put(&system, "TEA", "tea").await;
    system.wait_until_settled().await;
    system.order.execute("ALTER TABLE product_copy RENAME TO product_copy_away").await;
    for n in 0..30 {
        put(&system, &format!("SKU-{n:02}"), "tea").await;
    }
    told_once(&system, "product_copy").await;
    system.order.execute("ALTER TABLE product_copy_away RENAME TO product_copy").await;
    well_again(system).await;
}

/// A lock that nobody gives up in time is a fault of no event, in whatever language the server says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_copy_is_locked_for_a_while() {
    let Some(system) = TestSystem::real("copy_locked").await else { return };
    put(&system, "TEA", "tea").await;
    system.wait_until_settled().await;
    // As a trigger says it, so that the text is in no language that anybody could have foreseen.
    system
        .order
        .execute(
            "CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN RAISE EXCEPTION 'Sperre wurde nicht gew\u{e4}hrt: product_copy' USING ERRCODE = '55P03'; END $$; \
             CREATE TRIGGER locked BEFORE INSERT OR UPDATE ON product_copy \
             FOR EACH ROW EXECUTE FUNCTION locked()",
        )
        .await;
    for n in 0..10 {
        put(&system, &format!("SKU-{n:02}"), "tea").await;
    }
    told_once(&system, "product_copy").await;
    system.order.execute("DROP TRIGGER locked ON product_copy").await;
    well_again(system).await;
}

/// Waits until the consumer tells its operator, and its source too, and checks what they are told.
async fn told_once(system: &TestSystem, cause: &str) {
    let alert = eventually("an alert that names the cause", DEADLINE, async || {
        let alerts = system.order.get("/api/admin/v1/alerts?kind=not_applied&limit=10").await.ok();
        match alerts["items"].as_array().map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            _ => Err(alerts),
        }
    })
    .await;
    let error = alert["error"].as_str().expect("a cause");
    assert!(error.contains(cause), "{alert}");
    eventually("an alert of missing answers", DEADLINE, async || {
        let silent = "SELECT count(*) AS n FROM alert WHERE kind = 'silent' AND closed_us IS NULL";
        match system.product.count(silent).await {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await;
}

async fn well_again(system: TestSystem) {
    system.wait_until_settled().await;
    system.assert_no_attempt_was_lost().await;
    system.assert_nothing_gave_up().await;
    eventually("every alert to be closed", DEADLINE, async || {
        let open = "SELECT count(*) AS n FROM alert WHERE closed_us IS NULL";
        match (system.product.count(open).await, system.order.count(open).await) {
            (0, 0) => Ok(()),
            open => Err(open),
        }
    })
    .await;
    assert_eq!(system.order.count("SELECT count(*) AS n FROM alert").await, 1, "one for all of it");
    system.assert_equal_at_rest().await;
    system.stop().await;
}
