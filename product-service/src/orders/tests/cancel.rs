//! Cancelling at the owner of the stock.

use engine::kafka::Verdict::{Failed, Rejected, Success};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::stock_fixture::StockFixture;
use crate::inventory::tests::product_fixture::content;
use crate::orders::OrderState;

async fn what_was_taken_is_given_back_once(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    let order = fixture.id();
    fixture.one(fixture.placed(order, &[("A", 3)])).await;
    let command = fixture.cancelled(order);
    let answer = fixture.one(command.clone()).await;
    let result = json!({"deducted": {"epoch": 1, "versions": {"A": 2}}, "versions": {"A": 3}});
    assert_eq!(answer, (Success, "applied".to_owned(), result.clone()));
    assert_eq!(fixture.stock("A").await, (10, 3));
    let cause = &fixture.products.payloads().await[2]["cause"];
    assert_eq!(*cause, json!({"kind": "order", "reason": "cancelled", "reference": order}));
    fixture.forget_answers().await;
    for again in [command, fixture.cancelled(order)] {
        assert_eq!(fixture.one(again).await, (Success, "duplicate".to_owned(), result.clone()));
    }
    let placed = fixture.one(fixture.placed(order, &[("A", 3)])).await;
    assert_eq!((placed.0, placed.2), (Success, json!({"epoch": 1, "versions": {"A": 2}})));
    assert_eq!(fixture.stock("A").await, (10, 3));
}

async fn a_cancellation_that_comes_first_keeps_the_order_out(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    let order = fixture.id();
    let answer = fixture.one(fixture.cancelled(order)).await;
    assert_eq!(answer, (Success, "applied".to_owned(), json!({"versions": {}})));
    let (record, deducted) = fixture.record(order).await.unwrap();
    assert_eq!((record.state, deducted.len()), (OrderState::Cancelled, 0));
    let placed = fixture.one(fixture.placed(order, &[("A", 3)])).await;
    assert_eq!((placed.0, placed.2), (Rejected, json!({"lines": [], "cancelled": true})));
    assert_eq!(fixture.stock("A").await, (10, 1));
}

async fn a_refused_order_has_nothing_to_give_back(fixture: &StockFixture) {
    fixture.products.stock("A", 1).await;
    let order = fixture.id();
    let refused = fixture.one(fixture.placed(order, &[("A", 3)])).await;
    let cancelled = fixture.one(fixture.cancelled(order)).await;
    assert_eq!((cancelled.0, cancelled.2), (Rejected, refused.2));
    assert_eq!(fixture.record(order).await.unwrap().0.state, OrderState::Refused);
    assert_eq!(fixture.stock("A").await, (1, 1));
}

async fn a_removed_product_gets_nothing_back(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    fixture.products.stock("B", 10).await;
    let order = fixture.id();
    fixture.one(fixture.placed(order, &[("A", 3), ("B", 1)])).await;
    fixture.products.delete("A", &[]).await;
    let (verdict, _, result) = fixture.one(fixture.cancelled(order)).await;
    assert_eq!((verdict, &result["versions"]), (Success, &json!({"B": 3})));
    assert_eq!((fixture.stock("A").await, fixture.stock("B").await), ((0, 3), (10, 3)));
}

/// A stock that has no room is not the command's fault: it passes once there is.
async fn a_stock_without_room_takes_it_back_later(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    fixture.products.stock("B", 10).await;
    let order = fixture.id();
    fixture.one(fixture.placed(order, &[("A", 3), ("B", 3)])).await;
    fixture.products.put("B", &[], content(i64::MAX)).await;
    let ack = fixture.arrive(vec![fixture.cancelled(order)]).await.remove(0);
    assert_eq!((ack.outcome, ack.retryable), (Failed, true));
    assert_eq!(fixture.stock("A").await, (7, 2), "nothing is half done");
    fixture.products.put("B", &[], content(5)).await;
    assert_eq!(fixture.one(fixture.cancelled(order)).await.0, Success);
    assert_eq!((fixture.stock("A").await, fixture.stock("B").await), ((10, 3), (8, 5)));
}

on_every_database!(&StockFixture::new =>
    what_was_taken_is_given_back_once,
    a_cancellation_that_comes_first_keeps_the_order_out,
    a_refused_order_has_nothing_to_give_back,
    a_removed_product_gets_nothing_back,
    a_stock_without_room_takes_it_back_later,
);
