//! Placing at the owner of the stock.

use engine::kafka::Verdict::{Rejected, Success};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::stock_fixture::StockFixture;
use crate::inventory::tests::product_fixture::{backorders, content};

async fn all_lines_are_deducted_and_told(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    fixture.products.stock("B", 5).await;
    let order = fixture.id();
    let answer = fixture.one(fixture.placed(order, &[("B", 2), ("A", 3), ("B", 1)])).await;
    let result = json!({"epoch": 1, "versions": {"A": 2, "B": 2}});
    assert_eq!(answer, (Success, "applied".to_owned(), result));
    assert_eq!((fixture.stock("A").await, fixture.stock("B").await), ((7, 2), (2, 2)));
    let payloads = fixture.products.payloads().await;
    assert_eq!(payloads.len(), 4, "one event for each product and order");
    let told = &payloads[2];
    assert_eq!(
        (&told["sku"], &told["quantity"], &told["version"]),
        (&json!("A"), &json!(7), &json!(2))
    );
    assert_eq!(told["cause"], json!({"kind": "order", "reason": "placed", "reference": order}));
}

async fn a_line_in_the_way_refuses_the_whole(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    fixture.products.stock("B", 2).await;
    fixture.products.stock("GONE", 9).await;
    fixture.products.delete("GONE", &[]).await;
    let order = fixture.id();
    let lines = [("A", 3), ("B", 3), ("NONE", 1), ("GONE", 1)];
    let (verdict, _, result) = fixture.one(fixture.placed(order, &lines)).await;
    assert_eq!(verdict, Rejected);
    let reasons: Vec<(&str, &str)> = result["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["sku"].as_str().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    let wanted =
        [("B", "insufficient_stock"), ("GONE", "removed_product"), ("NONE", "unknown_product")];
    assert_eq!(reasons, wanted);
    assert_eq!((fixture.stock("A").await, fixture.stock("B").await), ((10, 1), (2, 1)));
    assert_eq!(fixture.products.events().await.len(), 4, "nothing is told");
    // More arrives, and the answer stays what it was: an order is asked for once.
    fixture.products.put("B", &[], content(50)).await;
    let again = fixture.one(fixture.placed(order, &lines)).await;
    assert_eq!((again.0, again.2), (Rejected, result));
}

async fn however_often_it_comes_it_is_deducted_once(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    let order = fixture.id();
    let command = fixture.placed(order, &[("A", 3)]);
    let answers = fixture.arrive(vec![command.clone(); 10]).await;
    assert_eq!(answers.len(), 10);
    let first = fixture.one(command.clone()).await;
    assert_eq!(fixture.stock("A").await, (7, 2));
    // Another event of the same order, long after the answers were forgotten: the order's row is the guard.
    fixture.products.clock.advance(std::time::Duration::from_secs(86_400 * 90));
    fixture.forget_answers().await;
    let second = fixture.one(command).await;
    assert_eq!((second.0, &second.2), (first.0, &first.2));
    let third = fixture.one(fixture.placed(order, &[("A", 3)])).await;
    assert_eq!((third.0, &*third.1, &third.2), (Success, "duplicate", &first.2));
    assert_eq!(fixture.stock("A").await, (7, 2));
}

async fn backorders_go_below_zero(fixture: &StockFixture) {
    fixture.products.put("A", &[], backorders(1)).await;
    assert_eq!(fixture.one(fixture.placed(fixture.id(), &[("A", 5)])).await.0, Success);
    assert_eq!(fixture.stock("A").await, (-4, 2));
    fixture.products.put("B", &[], backorders(i64::MIN)).await;
    let (verdict, _, result) = fixture.one(fixture.placed(fixture.id(), &[("B", 5)])).await;
    assert_eq!((verdict, &result["lines"][0]["reason"]), (Rejected, &json!("out_of_range")));
}

async fn what_became_of_it_can_be_read(fixture: &StockFixture) {
    fixture.products.stock("A", 10).await;
    let order = fixture.id();
    let path = format!("/orders/{order}");
    assert_eq!(fixture.products.get(&path).await.status, 404);
    fixture.one(fixture.placed(order, &[("A", 3)])).await;
    fixture.one(fixture.cancelled(order)).await;
    let response = fixture.products.get(&path).await;
    assert_eq!((response.status.as_u16(), &response.body["state"]), (200, &json!("RETURNED")));
    let line = json!({"sku": "A", "quantity": 3, "version": 2, "returned_version": 3});
    assert_eq!(response.body["lines"], json!([line]));
}

on_every_database!(&StockFixture::new =>
    all_lines_are_deducted_and_told,
    a_line_in_the_way_refuses_the_whole,
    however_often_it_comes_it_is_deducted_once,
    backorders_go_below_zero,
    what_became_of_it_can_be_read,
);
