//! What the services do before they are judged, and while they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, TestService, TestSystem, text};

/// One change of each kind, with `sku` for a product that is new; counts them.
pub(super) async fn change(system: &TestSystem, sku: &str, made: &AtomicUsize) {
    let (product, order) = (&system.product, &system.order);
    let count = || _ = made.fetch_add(1, Ordering::SeqCst);
    product.adjust("E", 1).await;
    count();
    product.put_product(sku, 1).await;
    count();
    product.put_product("B", 1_000).await;
    count();
    order.place_order("B", 2).await;
    count();
    let regretted = text(&order.place_order("B", 1).await["id"]);
    let path = format!("/api/v1/orders/{regretted}/cancel");
    order.post(&path, json!({ "reason": "changed their mind" })).await.ok();
    count();
    assert_eq!(product.delete("/api/v1/inventory/C").await.status, 204);
    product.put_product("C", 5).await;
    count();
    let lines = |quantity: i64| {
        [sku, "C"].map(|sku| {
            json!({ "sku": sku, "description": sku, "quantity": quantity, "unit_price_minor": 3 })
        })
    };
    let replaced = json!({ "mode": "replace", "lines": lines(7) });
    product.post("/api/v1/inventory", replaced).await.ok();
    count();
    let counted = json!({ "mode": "adjust_to", "reason": "counted", "lines": lines(8) });
    product.post("/api/v1/inventory", counted).await.ok();
    count();
}

/// Waits until nothing is on its way: an event that waits for a person stays.
pub(super) async fn rest(system: &TestSystem) {
    eventually("nothing to be on its way", DEADLINE, async || {
        for service in [&system.order, &system.product] {
            let open = service.open_events().await.map_err(|error| error.to_string())?;
            if open.keys().any(|status| status != "EXHAUSTED") {
                return Err(format!("{open:?}"));
            }
        }
        Ok(())
    })
    .await;
}

/// Sends all that is kept of two products again.
pub(super) async fn replay(system: &TestSystem) {
    let kept = json!({ "kept": { "consumer": system.topics.order(), "keys": ["C", "E"] } });
    job(&system.product, json!({ "kind": "replay", "selection": kept })).await;
}

/// Takes a product from its copy, has that found, and repairs it.
pub(super) async fn repair(system: &TestSystem) {
    let (product, order) = (&system.product, &system.order);
    order.wait_until_complete().await;
    for sku in ["R", "S"] {
        product.put_product(sku, 10).await;
    }
    system.wait_until_settled().await;
    order.execute("DELETE FROM product_copy WHERE sku = 'R'").await;
    let asked = product.post("/api/admin/v1/verifications", json!({})).await.ok();
    let path = format!("/api/admin/v1/verifications/{}", text(&asked["seq"]));
    let found = product.wait_for_end(&path).await;
    assert_eq!(found["state"], "different", "{found}");
    let selection = json!({ "differences": found["seq"] });
    job(product, json!({ "kind": "repair", "selection": selection, "expected": 1 })).await;
    system.wait_until_settled().await;
}

/// Asks for a job and waits for its end.
async fn job(product: &TestService, asked: Value) {
    let job = product.post("/api/admin/v1/resyncs", asked).await.ok();
    let path = format!("/api/admin/v1/resyncs/{}", text(&job["seq"]));
    let done = product.wait_for_end(&path).await;
    assert_eq!(done["state"], "done", "{done}");
}

/// Products, adjustments, an order that is confirmed and one that is cancelled, and an event that gave up and was told.
pub(super) async fn fill(system: &TestSystem) {
    // A copy that is not complete would be filled by itself, with events more.
    system.order.wait_until_complete().await;
    for sku in ["A", "B", "C", "D", "E"] {
        system.product.put_product(sku, 1_000).await;
    }
    system.wait_until_settled().await;
    system.product.adjust("A", -3).await;
    system.product.adjust("B", 5).await;
    system.wait_until_settled().await;
    system.order.place_order("A", 2).await;
    let regretted = text(&system.order.place_order("B", 1).await["id"]);
    system.wait_until_settled().await;
    let path = format!("/api/v1/orders/{regretted}/cancel");
    system.order.post(&path, json!({ "reason": "changed their mind" })).await.ok();
    system.wait_until_settled().await;
    system.order.quarantine("D", "it is counted").await;
    system.product.adjust("D", 1).await;
    system.product.wait_for_exhausted_key("D").await;
    let told = "SELECT count(*) AS n FROM alert a JOIN mail m ON m.seq = a.mail_seq \
                WHERE a.kind = 'exhausted' AND a.key = 'D' AND m.sent_us IS NOT NULL";
    eventually("the mail to be noted as sent", DEADLINE, async || {
        match system.product.count(told).await {
            0 => Err(0),
            n => Ok(n),
        }
    })
    .await;
}
