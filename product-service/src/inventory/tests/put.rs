//! Putting in, replacing and removing.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::EventKind;
use common::http::Problem;
use common::trace_context::trace_id;
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::product_fixture::{ProductFixture, backorders, content, delta, line};
use crate::inventory::{WriteContext, adjust_batch};

async fn creates_then_replaces(fixture: &ProductFixture) {
    let created = fixture.put("85123A", &[], content(10)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("location"), "/api/v1/inventory/85123A");
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(
        created.body,
        json!({"sku": "85123A", "description": "HEART", "quantity": 10, "unit_price_minor": 255,
            "allow_backorder": false, "version": 1, "updated_at": "2010-12-01T08:26:00.000000Z"})
    );
    fixture.clock.advance(Duration::from_secs(1));
    let replaced = fixture.put("85123A", &[], backorders(-2)).await;
    assert_eq!((replaced.status.as_u16(), replaced.header("etag")), (200, "\"2\""));
    assert_eq!(replaced.header("location"), "");
    assert_eq!(replaced.body, fixture.get("/inventory/85123A").await.body);
    assert_eq!(
        fixture.payloads().await[1],
        json!({"sku": "85123A", "description": "HEART", "quantity": -2, "unit_price_minor": 255,
            "allow_backorder": true, "removed": false, "version": 2,
            "updated_at": "2010-12-01T08:26:01.000000Z", "cause": {"kind": "put"}})
    );
    let event = fixture.events().await.remove(1);
    assert_eq!(event.event_type, "stockloop.inventory.changed");
    assert_eq!(
        (&*event.key, event.version, event.epoch, event.kind),
        ("85123A", 2, 1, EventKind::Snapshot)
    );
}

async fn needs_backorders_to_start_below_zero(fixture: &ProductFixture) {
    let refused = fixture.put("A", &[], content(-1)).await;
    refused.assert_problem(422, "invalid", "quantity");
    assert!(fixture.rows().await.is_empty());
    assert!(fixture.events().await.is_empty());
    assert_eq!(fixture.put("A", &[], backorders(-1)).await.status, 201);
    let forbidden = fixture.put("A", &[], content(-1)).await;
    forbidden.assert_problem(422, "invalid", "quantity");
    assert_eq!(fixture.rows().await[0].version, 1);
}

async fn keeps_to_preconditions(fixture: &ProductFixture) {
    let put =
        async |header: &str, value: &str| fixture.put("A", &[(header, value)], content(1)).await;
    put("if-match", "*").await.assert_problem(412, "precondition-failed", "");
    put("if-match", "\"1\"").await.assert_problem(412, "precondition-failed", "");
    assert_eq!(put("if-none-match", "*").await.status, 201);
    put("if-none-match", "*").await.assert_problem(412, "precondition-failed", "");
    assert_eq!(put("if-match", "\"1\"").await.status, 200);
    put("if-match", "\"1\"").await.assert_problem(412, "precondition-failed", "");
    put("if-match", "W/\"2\"").await.assert_problem(412, "precondition-failed", "");
    put("if-match", "2").await.assert_problem(400, "malformed", "if-match");
    assert_eq!(put("if-match", "*").await.status, 200);
    assert_eq!(put("if-match", "\"9\", \"3\"").await.status, 200);
    assert_eq!(fixture.rows().await[0].version, 4);
    assert_eq!(fixture.events().await.len(), 4);
}

async fn removal_leaves_a_tombstone_that_recreation_goes_on_from(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let gone = fixture.delete("A", &[]).await;
    assert_eq!((gone.status.as_u16(), &gone.body), (204, &Value::Null));
    fixture.get("/inventory/A").await.assert_problem(404, "not-found", "sku");
    fixture.delete("A", &[]).await.assert_problem(404, "not-found", "sku");
    fixture.adjust("A", &[], delta(1)).await.assert_problem(404, "not-found", "sku");
    assert_eq!(fixture.get("/inventory").await.body, json!({"items": []}));
    let event = fixture.events().await.remove(1);
    assert_eq!((&*event.event_type, event.version), ("stockloop.inventory.removed", 2));
    let tombstone = &fixture.payloads().await[1];
    assert_eq!(tombstone["removed"], true);
    assert_eq!(tombstone["quantity"], 0);
    assert_eq!(tombstone["cause"], json!({"kind": "removal"}));

    let matched = fixture.put("A", &[("if-match", "\"2\"")], content(7)).await;
    matched.assert_problem(412, "precondition-failed", "");
    let again = fixture.put("A", &[("if-none-match", "*")], content(7)).await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (201, "\"3\""));
    assert_eq!(again.header("location"), "/api/v1/inventory/A");
    assert_eq!(fixture.get("/inventory/A").await.body["quantity"], 7);
    assert_eq!(fixture.rows().await.len(), 1);
}

async fn removal_keeps_to_preconditions(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    fixture.delete("B", &[("if-match", "*")]).await.assert_problem(404, "not-found", "sku");
    let other = fixture.delete("A", &[("if-match", "\"2\"")]).await;
    other.assert_problem(412, "precondition-failed", "");
    assert_eq!(fixture.delete("A", &[("if-match", "\"1\"")]).await.status, 204);
    assert_eq!(fixture.events().await.len(), 2);
}

/// A tombstone of a product with stock below zero must be storable, and must not keep that stock.
async fn a_product_in_backorder_can_be_removed(fixture: &ProductFixture) {
    fixture.put("A", &[], backorders(-4)).await;
    assert_eq!(fixture.delete("A", &[]).await.status, 204);
    assert_eq!(fixture.rows().await[0].quantity, 0);
}

async fn of_two_creations_at_once_one_creates(fixture: &ProductFixture) {
    for round in 0..20 {
        let sku = format!("S{round}");
        let (a, b) =
            tokio::join!(fixture.put(&sku, &[], content(1)), fixture.put(&sku, &[], content(2)));
        let mut outcomes =
            [a, b].map(|answer| (answer.status.as_u16(), answer.body["version"].clone()));
        outcomes.sort_by_key(|(status, _)| *status);
        assert_eq!(outcomes, [(200, json!(2)), (201, json!(1))]);

        let sku = format!("N{round}");
        let only_new = [("if-none-match", "*")];
        let (a, b) = tokio::join!(
            fixture.put(&sku, &only_new, content(1)),
            fixture.put(&sku, &only_new, content(2))
        );
        let mut outcomes = [a, b].map(|answer| answer.status.as_u16());
        outcomes.sort_unstable();
        assert_eq!(outcomes, [201, 412]);
    }
    assert_eq!(fixture.events().await.len(), 60);
}

async fn a_clock_set_back_makes_no_version_look_older(fixture: &ProductFixture) {
    fixture.stock("A", 5).await;
    let before = fixture.rows().await[0].updated_us;
    let context = WriteContext {
        outbox: fixture.inventory.outbox.clone(),
        now: Timestamp::from_micros(1),
        traceparent: None,
    };
    let work = move |conn: &mut Conn| {
        let lines = serde_json::from_value(json!([line("A", 1)])).unwrap();
        adjust_batch(conn, &context, lines).map_err(Problem::from)
    };
    fixture.inventory.db.write(work).await.unwrap();
    let after = fixture.rows().await.remove(0);
    assert_eq!((after.version, after.updated_us), (2, before));
}

async fn carries_the_trace_of_the_request(fixture: &ProductFixture) {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    fixture.put("A", &[("traceparent", trace)], content(1)).await;
    fixture.put("A", &[("traceparent", "nonsense")], content(1)).await;
    let events = fixture.events().await;
    assert_eq!(events[0].traceparent.as_deref(), Some(trace));
    let own = events[1].traceparent.as_deref().and_then(trace_id);
    assert!(own.is_some_and(|own| !trace.contains(own)), "noise begins a trace of its own");
}

async fn wakes_the_relay_after_a_change_only(fixture: &ProductFixture) {
    let woken = async || {
        tokio::time::timeout(
            Duration::from_millis(50),
            fixture.inventory.outbox.notify().notified(),
        )
        .await
        .is_ok()
    };
    fixture.put("A", &[], content(-1)).await;
    assert!(!woken().await);
    fixture.put("A", &[], content(1)).await;
    assert!(woken().await);
}

on_every_database!(&ProductFixture::new =>
    creates_then_replaces,
    needs_backorders_to_start_below_zero,
    keeps_to_preconditions,
    removal_leaves_a_tombstone_that_recreation_goes_on_from,
    removal_keeps_to_preconditions,
    a_product_in_backorder_can_be_removed,
    of_two_creations_at_once_one_creates,
    a_clock_set_back_makes_no_version_look_older,
    carries_the_trace_of_the_request,
    wakes_the_relay_after_a_change_only,
);
