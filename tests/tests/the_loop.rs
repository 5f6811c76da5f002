//! The loop as people use it: changes arrive in the copy, failures reach a person, and what was mended arrives too.

use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::stage::{MAX_ATTEMPTS, PATIENCE, Service, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_embedded() {
    changes_arrive(Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_on_real_parts() {
    if let Some(stage) = Stage::real("changes").await {
        changes_arrive(stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_reaches_a_person_embedded() {
    a_failure_reaches_a_person(Stage::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_reaches_a_person_on_real_parts() {
    if let Some(stage) = Stage::real("failure").await {
        a_failure_reaches_a_person(stage).await;
    }
}

async fn changes_arrive(stage: Stage) {
    let (product, order) = (&stage.product, &stage.order);
    product.put_product("TEA", 12).await;
    product.put_product("MUG", 3).await;
    product.adjust("TEA", -2).await;
    adjust_a_batch(product).await;
    assert_eq!(product.delete("/api/v1/inventory/MUG").await.status, 204);
    stage.settled().await;

    let copy = order.get("/api/v1/inventory/TEA").await;
    assert_eq!(copy.etag.as_deref(), Some("\"4\""));
    let copy = copy.ok();
    assert_eq!((&copy["quantity"], &copy["version"]), (&json!(15), &json!(4)), "{copy}");
    assert_eq!(copy["description"], "About TEA");
    assert!(copy["age_seconds"].is_u64() && copy["replication_delay_ms"].is_u64(), "{copy}");
    let gone = order.get("/api/v1/inventory/MUG").await;
    assert_eq!((gone.status.as_u16(), gone.kind.as_str()), (404, "application/problem+json"));

    let again = product.put_product("MUG", 7).await;
    assert_eq!(again["version"], 4, "a recreated product goes on from its tombstone's version");
    stage.settled().await;
    assert_eq!(order.get("/api/v1/inventory/MUG").await.ok()["version"], 4);
    stage.assert_equal_at_rest().await;
    stage.assert_nothing_gave_up().await;
    assert_the_admin_api_tells_of(product, 8).await;
    stage.stop().await;
}

/// Two lines that pass and one that is refused.
async fn adjust_a_batch(product: &Service) {
    let line = |sku: &str, delta: i64| json!({"sku": sku, "delta": delta, "reason": "count"});
    let lines =
        json!({"lines": [line("TEA", 4), line("MUG", -2), line("MUG", -9), line("TEA", 1)]});
    let done = product.post("/api/v1/adjustments", lines).await.ok();
    assert_eq!((&done["accepted"], &done["refused"]), (&json!(3), &json!(1)), "{done}");
}

async fn assert_the_admin_api_tells_of(product: &Service, events: i64) {
    let overview = eventually("a sample of the end", PATIENCE, async || {
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
        let path = format!("/api/admin/v1/events/{}", event["id"].as_str().expect("an id"));
        let event = product.get(&path).await.ok();
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

async fn a_failure_reaches_a_person(stage: Stage) {
    let (product, order) = (&stage.product, &stage.order);
    product.put_product("TEA", 12).await;
    product.put_product("MUG", 3).await;
    stage.settled().await;
    let reason = json!({"reason": "the shelf is being counted"});
    assert_eq!(order.put("/api/admin/v1/quarantine/TEA", reason).await.status, 201);
    product.adjust("TEA", -2).await;
    product.adjust("MUG", -1).await;

    let event = exhausted(product).await;
    assert_eq!(event["attempt"], MAX_ATTEMPTS);
    assert_eq!(event["key"], "TEA");
    let error = event["last_error"].as_str().expect("an error");
    assert!(error.contains("the shelf is being counted"), "{error}");
    let id = event["id"].as_str().expect("an id").to_owned();
    assert_eq!(outcomes(product, &id).await, ["FAILED", "FAILED", "FAILED"]);
    assert_eq!(order.get("/api/v1/inventory/TEA").await.ok()["version"], 1);
    assert_one_alert_and_mail(&stage, &id).await;
    eventually("the other product's change", PATIENCE, async || {
        let version = order.get("/api/v1/inventory/MUG").await.ok()["version"].clone();
        if version == 2 { Ok(()) } else { Err(version) }
    })
    .await;

    assert_eq!(order.delete("/api/admin/v1/quarantine/TEA").await.status, 204);
    let path = format!("/api/admin/v1/events/{id}/retry");
    product.post(&path, json!({"reason": "it was counted"})).await.ok();
    stage.settled().await;
    let outcomes = outcomes(product, &id).await;
    assert_eq!(outcomes, ["FAILED", "FAILED", "FAILED", "RETRIED", "SUCCESS"]);
    let alert = alert(product).await;
    assert!(alert["closed_at"].is_string(), "{alert}");
    assert_eq!(stage.mails.mails().len(), 1, "nobody is told twice");
    stage.assert_equal_at_rest().await;
    stage.stop().await;
}

async fn exhausted(product: &Service) -> Value {
    eventually("an event that gave up", PATIENCE, async || {
        let list = product.get("/api/admin/v1/events?status=EXHAUSTED").await.ok();
        match list["items"].as_array().map(Vec::as_slice) {
            Some([event]) => Ok(event.clone()),
            _ => Err(list),
        }
    })
    .await
}

async fn outcomes(product: &Service, id: &str) -> Vec<String> {
    let event = product.get(&format!("/api/admin/v1/events/{id}")).await.ok();
    let history = event["history"].as_array().expect("a history");
    history.iter().map(|line| line["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The only alert that there ever was.
async fn alert(product: &Service) -> Value {
    let alerts = product.get("/api/admin/v1/alerts").await.ok();
    match alerts["items"].as_array().map(Vec::as_slice) {
        Some([alert]) => alert.clone(),
        _ => panic!("one alert was expected: {alerts}"),
    }
}

async fn assert_one_alert_and_mail(stage: &Stage, id: &str) {
    let alert = eventually("an alert whose mail has left", Duration::from_secs(20), async || {
        let alert = alert(&stage.product).await;
        if alert["mail"]["sent_at"].is_string() { Ok(alert) } else { Err(alert) }
    })
    .await;
    assert_eq!((&alert["kind"], &alert["event_id"]), (&json!("exhausted"), &json!(id)));
    assert_eq!(alert["closed_at"], Value::Null);
    let mails = stage.mails.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["operator@example.test"]);
    let text = mails[0].text();
    let message_id = alert["mail"]["message_id"].as_str().expect("a Message-ID");
    assert!(text.contains(message_id) && text.contains("TEA"), "{text}");
}
