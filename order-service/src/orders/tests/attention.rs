//! Orders whose commands gave up: nothing is lost, and a person moves them on.

use engine::kafka::Verdict::{Failed, Success};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted};

async fn a_retry_goes_on_where_it_stopped(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = fixture.commands().await.remove(0);
    fixture.answer(&command, Failed, Value::Null).await;
    let order = fixture.order(&id).await;
    assert_eq!(order["status"], "NEEDS_ATTENTION");
    assert_eq!(order["timeline"][1]["note"], "no such shelf");
    assert_eq!(fixture.copy("A").await, (10, 3, 7), "it may have been taken: it stays promised");
    fixture.retry(&command).await;
    assert_eq!(fixture.status(&id).await, "PENDING");
    fixture.answer(&command, Success, deducted(&[("A", 2)])).await;
    assert_eq!(fixture.status(&id).await, "CONFIRMED");
}

async fn a_late_answer_still_counts(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = fixture.commands().await.remove(0);
    fixture.answer(&command, Failed, Value::Null).await;
    fixture.answer(&command, Success, deducted(&[("A", 2)])).await;
    assert_eq!(fixture.status(&id).await, "CONFIRMED");
}

/// Whether the stock was taken is not known; so the order is cancelled through the loop, which makes it right.
async fn a_resolved_placing_is_cancelled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = fixture.commands().await.remove(0);
    fixture.answer(&command, Failed, Value::Null).await;
    fixture.resolve(&command).await;
    let steps = fixture.timeline(&id).await;
    let wanted = [
        ("placed", "PENDING"),
        ("placing failed", "NEEDS_ATTENTION"),
        ("placing resolved", "NEEDS_ATTENTION"),
        ("cancellation requested", "CANCELLING"),
    ];
    assert_eq!(steps, wanted.map(|(what, status)| (what.to_owned(), status.to_owned())));
    assert_eq!(fixture.order(&id).await["timeline"][2]["note"], "by night shift: by phone");
    let commands = fixture.commands().await;
    assert_eq!(commands[1].event_type, "stockloop.order.cancelled");
    fixture.answer(&commands[1], Success, json!({"versions": {}})).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
}

async fn a_customer_may_cancel_what_needs_attention(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = fixture.commands().await.remove(0);
    fixture.answer(&command, Failed, Value::Null).await;
    assert_eq!(fixture.cancel(&id).await.body["status"], "CANCELLING");
    fixture.resolve(&command).await;
    assert_eq!(fixture.commands().await.len(), 2, "one cancellation is enough");
    assert_eq!(fixture.status(&id).await, "CANCELLING");
}

async fn a_cancellation_that_gave_up(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.cancel(&id).await;
    let cancelled = fixture.commands().await.remove(1);
    fixture.answer(&cancelled, Failed, Value::Null).await;
    assert_eq!(fixture.status(&id).await, "NEEDS_ATTENTION");
    assert_eq!(fixture.cancel(&id).await.body["status"], "NEEDS_ATTENTION");
    assert_eq!(fixture.commands().await.len(), 2);
    fixture.retry(&cancelled).await;
    assert_eq!(fixture.status(&id).await, "CANCELLING");
    fixture.answer(&cancelled, Success, json!({"versions": {}})).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
}

async fn a_resolved_cancellation_is_cancelled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.cancel(&id).await;
    let cancelled = fixture.commands().await.remove(1);
    fixture.answer(&cancelled, Failed, Value::Null).await;
    fixture.resolve(&cancelled).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
}

on_every_database!(&OrdersFixture::new =>
    a_retry_goes_on_where_it_stopped,
    a_late_answer_still_counts,
    a_resolved_placing_is_cancelled,
    a_customer_may_cancel_what_needs_attention,
    a_cancellation_that_gave_up,
    a_resolved_cancellation_is_cancelled,
);
