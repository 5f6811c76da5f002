//! Cancelling at the owner of the stock.

use common::kafka::Verdict::{Failed, Rejected, Success};
use serde_json::json;

use super::on_both_databases;
use super::store::Store;
use crate::inventory::tests::shop::content;
use crate::orders::State;

async fn what_was_taken_is_given_back_once(store: &Store) {
    store.shop.stock("A", 10).await;
    let order = store.id();
    store.one(store.placed(order, &[("A", 3)])).await;
    let command = store.cancelled(order);
    let answer = store.one(command.clone()).await;
    let result = json!({"deducted": {"epoch": 1, "versions": {"A": 2}}, "versions": {"A": 3}});
    assert_eq!(answer, (Success, "applied".to_owned(), result.clone()));
    assert_eq!(store.stock("A").await, (10, 3));
    let cause = &store.shop.payloads().await[2]["cause"];
    assert_eq!(*cause, json!({"kind": "order", "reason": "cancelled", "reference": order}));
    store.forget_answers().await;
    for again in [command, store.cancelled(order)] {
        assert_eq!(store.one(again).await, (Success, "duplicate".to_owned(), result.clone()));
    }
    let placed = store.one(store.placed(order, &[("A", 3)])).await;
    assert_eq!((placed.0, placed.2), (Success, json!({"epoch": 1, "versions": {"A": 2}})));
    assert_eq!(store.stock("A").await, (10, 3));
}

async fn a_cancellation_that_comes_first_keeps_the_order_out(store: &Store) {
    store.shop.stock("A", 10).await;
    let order = store.id();
    let answer = store.one(store.cancelled(order)).await;
    assert_eq!(answer, (Success, "applied".to_owned(), json!({"versions": {}})));
    let (record, deducted) = store.record(order).await.unwrap();
    assert_eq!((record.state, deducted.len()), (State::Cancelled, 0));
    let placed = store.one(store.placed(order, &[("A", 3)])).await;
    assert_eq!((placed.0, placed.2), (Rejected, json!({"lines": [], "cancelled": true})));
    assert_eq!(store.stock("A").await, (10, 1));
}

async fn a_refused_order_has_nothing_to_give_back(store: &Store) {
    store.shop.stock("A", 1).await;
    let order = store.id();
    let refused = store.one(store.placed(order, &[("A", 3)])).await;
    let cancelled = store.one(store.cancelled(order)).await;
    assert_eq!((cancelled.0, cancelled.2), (Rejected, refused.2));
    assert_eq!(store.record(order).await.unwrap().0.state, State::Refused);
    assert_eq!(store.stock("A").await, (1, 1));
}

async fn a_removed_product_gets_nothing_back(store: &Store) {
    store.shop.stock("A", 10).await;
    store.shop.stock("B", 10).await;
    let order = store.id();
    store.one(store.placed(order, &[("A", 3), ("B", 1)])).await;
    store.shop.delete("A", &[]).await;
    let (verdict, _, result) = store.one(store.cancelled(order)).await;
    assert_eq!((verdict, &result["versions"]), (Success, &json!({"B": 3})));
    assert_eq!((store.stock("A").await, store.stock("B").await), ((0, 3), (10, 3)));
}

/// A stock that has no room is not the command's fault: it passes once there is.
async fn a_stock_without_room_takes_it_back_later(store: &Store) {
    store.shop.stock("A", 10).await;
    store.shop.stock("B", 10).await;
    let order = store.id();
    store.one(store.placed(order, &[("A", 3), ("B", 3)])).await;
    store.shop.put("B", &[], content(i64::MAX)).await;
    let ack = store.arrive(vec![store.cancelled(order)]).await.remove(0);
    assert_eq!((ack.outcome, ack.retryable), (Failed, true));
    assert_eq!(store.stock("A").await, (7, 2), "nothing is half done");
    store.shop.put("B", &[], content(5)).await;
    assert_eq!(store.one(store.cancelled(order)).await.0, Success);
    assert_eq!((store.stock("A").await, store.stock("B").await), ((10, 3), (8, 5)));
}

on_both_databases![
    what_was_taken_is_given_back_once,
    a_cancellation_that_comes_first_keeps_the_order_out,
    a_refused_order_has_nothing_to_give_back,
    a_removed_product_gets_nothing_back,
    a_stock_without_room_takes_it_back_later,
];
