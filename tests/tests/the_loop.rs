//! The loop as people use it: changes arrive in the copy, failures reach a person, and what was mended arrives too.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, MAX_ATTEMPTS, TestService, TestSystem, on_embedded_and_real, text};

on_embedded_and_real!(changes_arrive as "changes", a_failure_reaches_a_person as "failure");

async fn changes_arrive(system: TestSystem) {
    let (product, order) = (&system.product, &system.order);
    product.put_product("TEA", 12).await;
    product.put_product("MUG", 3).await;
    product.adjust("TEA", -2).await;
    adjust_a_batch(product).await;
    assert_eq!(product.delete("/api/v1/inventory/MUG").await.status, 204);
    system.wait_until_settled().await;

    let copy = order.get("/api/v1/inventory/TEA").await;
    assert_eq!(copy.header("etag"), "\"4\"");
    let copy = copy.ok();
    assert_eq!((&copy["quantity"], &copy["version"]), (&json!(15), &json!(4)), "{copy}");
    assert_eq!(copy["description"], "About TEA");
    assert!(copy["age_seconds"].is_u64() && copy["replication_delay_ms"].is_u64(), "{copy}");
    let gone = order.get("/api/v1/inventory/MUG").await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.header("content-type"), "application/problem+json");

    let again = product.put_product("MUG", 7).await;
    assert_eq!(again["version"], 4, "a recreated product goes on from its tombstone's version");
    system.wait_until_settled().await;
    assert_eq!(order.get("/api/v1/inventory/MUG").await.ok()["version"], 4);
    system.assert_equal_at_rest().await;
    system.assert_nothing_gave_up().await;
    assert_the_admin_api_tells_of(product, 8).await;
    system.stop().await;
}

/// Two lines that pass and one that is refused.
async fn adjust_a_batch(product: &TestService) {
    let line = |sku: &str, delta: i64| json!({"sku": sku, "delta": delta, "reason": "count"});
    let lines =
        json!({"lines": [line("TEA", 4), line("MUG", -2), line("MUG", -9), line("TEA", 1)]});
    let done = product.post("/api/v1/adjustments", lines).await.ok();
    assert_eq!((&done["accepted"], &done["refused"]), (&json!(3), &json!(1)), "{done}");
}

async fn assert_the_admin_api_tells_of(product: &TestService, events: i64) {
    let overview = eventually("a sample of the end", DEADLINE, async || {
        let overview = product.get("/api/admin/v1/overview").await.ok();
        if overview["events"]["PROCESSED"] == events { Ok(overview) } else { Err(overview) }
    })
    .await;
    assert_eq!(
        overview["events"],
        json!({"PENDING": 0, "SENT": 0, "EXHAUSTED": 0, "RESOLVED": 0, "PROCESSED": events})
    );
    assert_eq!(overview["oldest_unacknowledged"], Value::Null);
    let list = product.get("/api/admin/v1/events?key=TEA").await.ok();
    let list = list["items"].as_array().expect("a list");
    let versions: Vec<_> = list.iter().map(|event| event["version"].as_i64()).collect();
    assert_eq!(versions, [Some(4), Some(3), Some(2), Some(1)], "newest first");
    for event in list {
        assert_eq!((&event["status"], &event["attempt"]), (&json!("PROCESSED"), &json!(1)));
        let event = product.event(&text(&event["id"])).await;
        let history = event["history"].as_array().expect("a history");
        assert_eq!(history.len(), 1, "{event}");
        assert_eq!(history[0]["outcome"], "SUCCESS");
        assert!(history[0]["detail"].is_string() && history[0]["sent_at"].is_string(), "{event}");
        let times = ["created_at", "sent_at", "settled_at"].map(|name| event[name].as_str());
        // One notation in UTC, so that the texts compare as the times do.
        assert!(times.is_sorted() && times[0].is_some(), "{event}");
        assert!(event["processed_at"].as_str() <= event["settled_at"].as_str(), "{event}");
    }
}

async fn a_failure_reaches_a_person(system: TestSystem) {
    let (product, order) = (&system.product, &system.order);
    product.put_product("TEA", 12).await;
    product.put_product("MUG", 3).await;
    system.wait_until_settled().await;
    order.quarantine("TEA", "the shelf is being counted").await;
    product.adjust("TEA", -2).await;
    product.adjust("MUG", -1).await;

    let event = product.wait_for_exhausted(1).await.remove(0);
    assert_eq!(event["attempt"], MAX_ATTEMPTS);
    assert_eq!(event["key"], "TEA");
    let error = event["last_error"].as_str().expect("an error");
    assert!(error.contains("the shelf is being counted"), "{error}");
    let id = text(&event["id"]);
    assert_eq!(outcomes(product, &id).await, ["FAILED", "FAILED", "FAILED"]);
    assert_eq!(order.get("/api/v1/inventory/TEA").await.ok()["version"], 1);
    assert_one_alert_and_mail(&system, &id).await;
    eventually("the other product's change", DEADLINE, async || {
        let version = order.get("/api/v1/inventory/MUG").await.ok()["version"].clone();
        if version == 2 { Ok(()) } else { Err(version) }
    })
    .await;

    order.release("TEA").await;
    let path = format!("/api/admin/v1/events/{id}/retry");
    product.post(&path, json!({"reason": "it was counted"})).await.ok();
    system.wait_until_settled().await;
    let outcomes = outcomes(product, &id).await;
    assert_eq!(outcomes, ["FAILED", "FAILED", "FAILED", "RETRIED", "SUCCESS"]);
    let alert = alert(product).await;
    assert!(alert["closed_at"].is_string(), "{alert}");
    assert_eq!(system.mails.mails().len(), 1, "nobody is told twice");
    system.assert_equal_at_rest().await;
    system.stop().await;
}

async fn outcomes(product: &TestService, id: &str) -> Vec<String> {
    let event = product.event(id).await;
    let history = event["history"].as_array().expect("a history");
    history.iter().map(|line| line["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The only alert that there ever was.
async fn alert(product: &TestService) -> Value {
    let alerts = product.get("/api/admin/v1/alerts").await.ok();
    match alerts["items"].as_array().map(Vec::as_slice) {
        Some([alert]) => alert.clone(),
        _ => panic!("one alert was expected: {alerts}"),
    }
}

async fn assert_one_alert_and_mail(system: &TestSystem, id: &str) {
    let alert = eventually("an alert whose mail has left", DEADLINE, async || {
        let alert = alert(&system.product).await;
        if alert["mail"]["sent_at"].is_string() { Ok(alert) } else { Err(alert) }
    })
    .await;
    assert_eq!((&alert["kind"], &alert["event_id"]), (&json!("exhausted"), &json!(id)));
    assert_eq!(alert["closed_at"], Value::Null);
    let mails = system.mails.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["operator@example.test"]);
    let text = mails[0].text();
    let message_id = alert["mail"]["message_id"].as_str().expect("a Message-ID");
    assert!(text.contains(message_id) && text.contains("TEA"), "{text}");
}
