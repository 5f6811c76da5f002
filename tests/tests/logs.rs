//! What the services' logs say of one event, and what they must not say.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::stage::{PATIENCE, Service, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_found_by_its_event_and_quotes_no_payload() {
    let Some(mut stage) = Stage::real("logs").await else { return };
    let reason = json!({"reason": "QUOTED-REASON"});
    assert_eq!(stage.order.put("/api/admin/v1/quarantine/TEA", reason).await.status, 201);
    let content = json!({"description": "QUOTED-PAYLOAD", "quantity": 7, "unit_price_minor": 255});
    stage.product.put("/api/v1/inventory/TEA", content).await.ok();
    let event = eventually("an event that gave up", PATIENCE, async || {
        let list = stage.product.get("/api/admin/v1/events?status=EXHAUSTED").await.ok();
        let event = list["items"][0]["id"].as_str().map(str::to_owned);
        event.ok_or(list)
    })
    .await;
    let stored = stage.product.get(&format!("/api/admin/v1/events/{event}")).await.ok();
    let traceparent = stored["traceparent"].as_str().expect("each event has one").to_owned();
    let trace_id = &traceparent[3..35];

    let gave_up = line_about(&mut stage.product, &event, "EXHAUSTED").await;
    assert_eq!((&gave_up["level"], &gave_up["attempt"]), (&json!("ERROR"), &json!(3)));
    assert_eq!((&gave_up["trace_id"], &gave_up["key"]), (&json!(trace_id), &json!("TEA")));
    let failed = line_about(&mut stage.order, &event, "FAILED").await;
    assert_eq!((&failed["level"], &failed["retryable"]), (&json!("WARN"), &json!(true)));
    assert_eq!(failed["trace_id"], trace_id);
    let deed = lines(&mut stage.order).into_iter().find(|line| line["action"] == "quarantine.put");
    let deed = deed.expect("operators' deeds are logged");
    assert!(deed["who"].is_string() && deed["trace_id"].is_string(), "{deed}");
    for service in [&mut stage.product, &mut stage.order] {
        let log = service.child().log();
        assert!(!log.contains("QUOTED-"), "{log}");
        for line in lines(service) {
            assert!(
                line["service"].as_str().is_some_and(|name| name.ends_with("-service")),
                "{line}"
            );
        }
    }
    stage.stop().await;
}

async fn line_about(service: &mut Service, event: &str, what: &str) -> Value {
    eventually(&format!("a line about {event}: {what}"), PATIENCE, async || {
        let lines = lines(service);
        let is_it = |line: &&Value| {
            let says = line["message"].as_str().is_some_and(|message| message.contains(what));
            line["event_id"] == event && says
        };
        lines.iter().find(is_it).cloned().ok_or(lines)
    })
    .await
}

/// The log's lines; what a service prints besides is no JSON.
fn lines(service: &mut Service) -> Vec<Value> {
    let log = service.child().log();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
