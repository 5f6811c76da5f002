//! One trace from a request over the outbox and the topics to the apply and the ack, as a collector gets to see it.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use tokio::time::timeout;

use crate::system::collector::{CollectedSpan, TraceCollector};
use crate::system::{DEADLINE, MAX_ATTEMPTS, TestService, TestSystem, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_trace_over_both_services() {
    let collector = TraceCollector::start();
    let system = TestSystem::traced(&collector.url).await;
    system.product.put_product("TEA", 12).await;
    system.wait_until_settled().await;
    let event = system.product.newest_event("TEA").await;

    let request = request(&collector, "PUT /api/v1/inventory/{sku}").await;
    assert_eq!((request.service.as_str(), request.kind), ("product-service", SpanKind::Server));
    assert_eq!((request.parent.as_str(), request.failed), ("", false), "nobody began it before");
    assert_eq!(request.attribute("http.route"), "/api/v1/inventory/{sku}");
    assert_eq!(request.attribute("url.path"), "/api/v1/inventory/TEA");
    assert_eq!(request.attribute("http.response.status_code"), "201");
    assert_steps(&collector, &request, &event, ["product-service", "order-service"]).await;
    let whole = collector.spans().into_iter().filter(|span| span.trace == request.trace);
    assert_eq!(whole.count(), 4, "request, send, process, settle");

    // The event itself says which trace it belongs to.
    let stored = system.product.event(&event).await;
    let traceparent = format!("00-{}-{}-01", request.trace, request.id);
    assert_eq!(stored["traceparent"], traceparent, "{stored}");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_a_client_began_goes_on_and_what_it_did_not_sample_is_left_out() {
    let collector = TraceCollector::start();
    let system = TestSystem::traced(&collector.url).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    put(&system.product, "TEA", &format!("00-{trace}-b7ad6b7169203331-01")).await;
    let quiet = "1af7651916cd43dd8448eb211c80319c";
    put(&system.product, "MUG", &format!("00-{quiet}-b7ad6b7169203331-00")).await;
    system.wait_until_settled().await;
    let event = system.product.newest_event("TEA").await;
    let request = request(&collector, "PUT /api/v1/inventory/{sku}").await;
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (trace, "b7ad6b7169203331"));
    assert_steps(&collector, &request, &event, ["product-service", "order-service"]).await;
    let quiet_event = system.product.newest_event("MUG").await;
    let stored = system.product.event(&quiet_event).await;
    assert_eq!(stored["traceparent"], format!("00-{quiet}-b7ad6b7169203331-00"));
    system.stop().await;
    assert!(collector.spans().iter().all(|span| span.trace != quiet), "it was not sampled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_one_trace_in_both_directions() {
    let collector = TraceCollector::start();
    let system = TestSystem::traced(&collector.url).await;
    system.product.put_product("TEA", 12).await;
    system.wait_until_settled().await;
    eventually("the copy", DEADLINE, async || {
        let copy = system.order.get("/api/v1/inventory/TEA").await;
        if copy.status == 200 { Ok(()) } else { Err(copy) }
    })
    .await;
    let order = text(&system.order.place_order("TEA", 2).await["id"]);

    let request = request(&collector, "POST /api/v1/orders").await;
    assert_eq!(request.service, "order-service");
    let command = system.order.newest_event(&order).await;
    let there = ["order-service", "product-service"];
    let carried_out = assert_steps(&collector, &request, &command, there).await;
    eventually("the deduction", DEADLINE, async || {
        let product = system.product.get("/api/v1/inventory/TEA").await.ok();
        if product["version"] == 2 { Ok(()) } else { Err(product) }
    })
    .await;
    // What product-service did about the order is below the step that did it.
    let deduction = system.product.newest_event("TEA").await;
    let back = ["product-service", "order-service"];
    assert_steps(&collector, &carried_out, &deduction, back).await;
    let whole = collector.spans().into_iter().filter(|span| span.trace == request.trace);
    assert_eq!(whole.count(), 7, "one request, and send, process, settle twice");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_told_with_its_failure() {
    let collector = TraceCollector::start();
    let system = TestSystem::traced(&collector.url).await;
    system.order.quarantine("TEA", "the shelf is being counted").await;
    system.product.put_product("TEA", 12).await;
    let steps = eventually("every attempt", DEADLINE, async || {
        let spans = collector.spans();
        let settled = spans.iter().filter(|span| span.name.starts_with("settle ")).count();
        if settled >= attempts() { Ok(spans) } else { Err(spans) }
    })
    .await;
    for (name, failed) in [("send ", false), ("process ", true), ("settle ", false)] {
        let steps: Vec<&CollectedSpan> =
            steps.iter().filter(|span| span.name.starts_with(name)).collect();
        let attempts: BTreeSet<_> =
            steps.iter().map(|span| span.attribute("stockloop.attempt")).collect();
        assert_eq!(attempts, BTreeSet::from(["1", "2", "3"]), "{steps:?}");
        assert!(steps.iter().all(|span| span.failed == failed), "{steps:?}");
        assert_eq!(steps.iter().map(|span| &span.trace).collect::<BTreeSet<_>>().len(), 1);
    }
    let status = |attempt: &str| {
        let of = |span: &&CollectedSpan| {
            span.name.starts_with("settle ") && span.attribute("stockloop.attempt") == attempt
        };
        steps.iter().find(of).map(|span| span.attribute("stockloop.status").to_owned())
    };
    assert_eq!(status("1").as_deref(), Some("PENDING"));
    assert_eq!(status("3").as_deref(), Some("EXHAUSTED"));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up() {
    let gone = TraceCollector::start().url.clone();
    let system = TestSystem::traced(&gone).await;
    for _ in 0..20 {
        system.product.put_product("TEA", 12).await;
    }
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    timeout(DEADLINE, system.stop()).await.expect("stopping does not wait for it");
}

fn attempts() -> usize {
    usize::try_from(MAX_ATTEMPTS).expect("few")
}

/// The request with this name, of which there is one.
async fn request(collector: &TraceCollector, name: &str) -> CollectedSpan {
    collector.wait_for_span(name, |span| span.name == name).await
}

/// Holds an event's three steps below `cause` against what they should be; returns the step that applied it.
async fn assert_steps(
    collector: &TraceCollector,
    cause: &CollectedSpan,
    event: &str,
    [sender, receiver]: [&str; 2],
) -> CollectedSpan {
    let find = async |step: &str| {
        let wanted = |span: &CollectedSpan| {
            span.name.starts_with(step)
                && span.attributes.get("messaging.message.id").is_some_and(|id| id == event)
        };
        collector.wait_for_span(&format!("the span {step} of {event}"), wanted).await
    };
    let steps = [find("send ").await, find("process ").await, find("settle ").await];
    let services = steps.each_ref().map(|span| span.service.as_str());
    assert_eq!(services, [sender, receiver, sender]);
    let kinds = steps.each_ref().map(|span| span.kind);
    assert_eq!(kinds, [SpanKind::Producer, SpanKind::Consumer, SpanKind::Consumer]);
    let mut above = cause;
    for span in &steps {
        assert_eq!((&span.trace, &span.parent), (&cause.trace, &above.id), "{span:?}");
        assert!(
            above.started_ns <= span.started_ns && span.started_ns <= span.ended_ns,
            "{above:?} {span:?}"
        );
        assert_eq!(span.attribute("stockloop.attempt"), "1");
        assert_eq!(span.attribute("messaging.system"), "kafka");
        assert!(!span.failed, "{span:?}");
        above = span;
    }
    let keys: BTreeSet<_> =
        steps.iter().map(|span| span.attribute("messaging.kafka.message.key")).collect();
    assert_eq!(keys.len(), 1, "{steps:?}");
    assert_eq!(steps[1].attribute("stockloop.outcome"), "SUCCESS");
    assert_eq!(steps[2].attribute("stockloop.status"), "PROCESSED");
    let [_, applied, _] = steps;
    applied
}

async fn put(service: &TestService, sku: &str, traceparent: &str) {
    let url = format!("{}/api/v1/inventory/{sku}", service.base_url.get());
    let body: Value = json!({"description": sku, "quantity": 1, "unit_price_minor": 255});
    let request = service.http.request(Method::PUT, url).header("traceparent", traceparent);
    let answer = request.json(&body).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 201);
}
