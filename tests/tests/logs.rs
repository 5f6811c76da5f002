//! What the services' logs say of one event, and what they must not say.

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, TestService, TestSystem, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_found_by_its_event_and_quotes_no_payload() {
    let Some(mut system) = TestSystem::real("logs").await else { return };
    system.order.quarantine("TEA", "QUOTED-REASON").await;
    let content = json!({"description": "QUOTED-PAYLOAD", "quantity": 7, "unit_price_minor": 255});
    system.product.put("/api/v1/inventory/TEA", content).await.ok();
    let exhausted = system.product.wait_for_exhausted(1).await.remove(0);
    let event = text(&exhausted["id"]);
    let traceparent = text(&system.product.event(&event).await["traceparent"]);
    let trace_id = &traceparent[3..35];

    let gave_up = line_about(&mut system.product, &event, "EXHAUSTED").await;
    assert_eq!((&gave_up["level"], &gave_up["attempt"]), (&json!("ERROR"), &json!(3)));
    assert_eq!((&gave_up["trace_id"], &gave_up["key"]), (&json!(trace_id), &json!("TEA")));
    let failed = line_about(&mut system.order, &event, "FAILED").await;
    assert_eq!((&failed["level"], &failed["retryable"]), (&json!("WARN"), &json!(true)));
    assert_eq!(failed["trace_id"], trace_id);
    let mut logged = lines(&mut system.order).into_iter();
    let action = logged.find(|line| line["action"] == "quarantine.put");
    let action = action.expect("operators' actions are logged");
    assert!(action["who"].is_string() && action["trace_id"].is_string(), "{action}");
    for service in [&mut system.product, &mut system.order] {
        let log = service.child().log();
        assert!(!log.contains("QUOTED-"), "{log}");
        for line in lines(service) {
            assert!(
                line["service"].as_str().is_some_and(|name| name.ends_with("-service")),
                "{line}"
            );
        }
    }
    system.stop().await;
}

async fn line_about(service: &mut TestService, event: &str, what: &str) -> Value {
    eventually(&format!("a line about {event}: {what}"), DEADLINE, async || {
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
fn lines(service: &mut TestService) -> Vec<Value> {
    let log = service.child().log();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
