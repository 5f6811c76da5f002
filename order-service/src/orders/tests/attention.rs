//! Orders whose commands gave up: nothing is lost, and a person moves them on.

use common::kafka::Verdict::{Failed, Success};
use serde_json::{Value, json};

use super::desk::{Desk, deducted};
use super::on_both_databases;

async fn a_retry_goes_on_where_it_stopped(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    let command = desk.commands().await.remove(0);
    desk.answer(&command, Failed, Value::Null).await;
    let order = desk.order(&id).await;
    assert_eq!(order["status"], "NEEDS_ATTENTION");
    assert_eq!(order["timeline"][1]["note"], "no such shelf");
    assert_eq!(desk.copy("A").await, (10, 3, 7), "it may have been taken: it stays promised");
    desk.retry(&command).await;
    assert_eq!(desk.status(&id).await, "PENDING");
    desk.answer(&command, Success, deducted(&[("A", 2)])).await;
    assert_eq!(desk.status(&id).await, "CONFIRMED");
}

async fn a_late_answer_still_counts(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    let command = desk.commands().await.remove(0);
    desk.answer(&command, Failed, Value::Null).await;
    desk.answer(&command, Success, deducted(&[("A", 2)])).await;
    assert_eq!(desk.status(&id).await, "CONFIRMED");
}

/// Whether the stock was taken is not known; so the order is cancelled through the loop, which makes it right.
async fn a_resolved_placing_is_cancelled(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    let command = desk.commands().await.remove(0);
    desk.answer(&command, Failed, Value::Null).await;
    desk.resolve(&command).await;
    let steps = desk.timeline(&id).await;
    let wanted = [
        ("placed", "PENDING"),
        ("placing failed", "NEEDS_ATTENTION"),
        ("placing resolved", "NEEDS_ATTENTION"),
        ("cancellation requested", "CANCELLING"),
    ];
    assert_eq!(steps, wanted.map(|(what, status)| (what.to_owned(), status.to_owned())));
    assert_eq!(desk.order(&id).await["timeline"][2]["note"], "by night shift: by phone");
    let commands = desk.commands().await;
    assert_eq!(commands[1].event_type, "stockloop.order.cancelled");
    desk.answer(&commands[1], Success, json!({"versions": {}})).await;
    assert_eq!(desk.status(&id).await, "CANCELLED");
    assert_eq!(desk.copy("A").await, (10, 0, 10));
}

async fn a_customer_may_cancel_what_needs_attention(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    let command = desk.commands().await.remove(0);
    desk.answer(&command, Failed, Value::Null).await;
    assert_eq!(desk.cancel(&id).await.body["status"], "CANCELLING");
    desk.resolve(&command).await;
    assert_eq!(desk.commands().await.len(), 2, "one cancellation is enough");
    assert_eq!(desk.status(&id).await, "CANCELLING");
}

async fn a_cancellation_that_gave_up(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    desk.cancel(&id).await;
    let cancelled = desk.commands().await.remove(1);
    desk.answer(&cancelled, Failed, Value::Null).await;
    assert_eq!(desk.status(&id).await, "NEEDS_ATTENTION");
    assert_eq!(desk.cancel(&id).await.body["status"], "NEEDS_ATTENTION");
    assert_eq!(desk.commands().await.len(), 2);
    desk.retry(&cancelled).await;
    assert_eq!(desk.status(&id).await, "CANCELLING");
    desk.answer(&cancelled, Success, json!({"versions": {}})).await;
    assert_eq!(desk.status(&id).await, "CANCELLED");
}

async fn a_resolved_cancellation_is_cancelled(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    desk.cancel(&id).await;
    let cancelled = desk.commands().await.remove(1);
    desk.answer(&cancelled, Failed, Value::Null).await;
    desk.resolve(&cancelled).await;
    assert_eq!(desk.status(&id).await, "CANCELLED");
    assert_eq!(desk.copy("A").await, (10, 0, 10));
}

on_both_databases![
    a_retry_goes_on_where_it_stopped,
    a_late_answer_still_counts,
    a_resolved_placing_is_cancelled,
    a_customer_may_cancel_what_needs_attention,
    a_cancellation_that_gave_up,
    a_resolved_cancellation_is_cancelled,
];
