//! Placing at the owner of the stock.

use common::kafka::Verdict::{Rejected, Success};
use serde_json::json;

use super::on_both_databases;
use super::store::Store;
use crate::inventory::tests::shop::{backorders, content};

async fn all_lines_are_deducted_and_told(store: &Store) {
    store.shop.stock("A", 10).await;
    store.shop.stock("B", 5).await;
    let order = store.id();
    let answer = store.one(store.placed(order, &[("B", 2), ("A", 3), ("B", 1)])).await;
    let result = json!({"epoch": 1, "versions": {"A": 2, "B": 2}});
    assert_eq!(answer, (Success, "applied".to_owned(), result));
    assert_eq!((store.stock("A").await, store.stock("B").await), ((7, 2), (2, 2)));
    let payloads = store.shop.payloads().await;
    assert_eq!(payloads.len(), 4, "one event for each product and order");
    let told = &payloads[2];
    assert_eq!(
        (&told["sku"], &told["quantity"], &told["version"]),
        (&json!("A"), &json!(7), &json!(2))
    );
    assert_eq!(told["cause"], json!({"kind": "order", "reason": "placed", "reference": order}));
}

async fn a_line_in_the_way_refuses_the_whole(store: &Store) {
    store.shop.stock("A", 10).await;
    store.shop.stock("B", 2).await;
    store.shop.stock("GONE", 9).await;
    store.shop.delete("GONE", &[]).await;
    let order = store.id();
    let lines = [("A", 3), ("B", 3), ("NONE", 1), ("GONE", 1)];
    let (verdict, _, result) = store.one(store.placed(order, &lines)).await;
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
    assert_eq!((store.stock("A").await, store.stock("B").await), ((10, 1), (2, 1)));
    assert_eq!(store.shop.events().await.len(), 4, "nothing is told");
    // More arrives, and the answer stays what it was: an order is asked for once.
    store.shop.put("B", &[], content(50)).await;
    let again = store.one(store.placed(order, &lines)).await;
    assert_eq!((again.0, again.2), (Rejected, result));
}

async fn however_often_it_comes_it_is_deducted_once(store: &Store) {
    store.shop.stock("A", 10).await;
    let order = store.id();
    let command = store.placed(order, &[("A", 3)]);
    let answers = store.arrive(vec![command.clone(); 10]).await;
    assert_eq!(answers.len(), 10);
    let first = store.one(command.clone()).await;
    assert_eq!(store.stock("A").await, (7, 2));
    // Another event of the same order, long after the answers were forgotten: the order's row is the guard.
    store.shop.clock.advance(std::time::Duration::from_secs(86_400 * 90));
    store.forget_answers().await;
    let second = store.one(command).await;
    assert_eq!((second.0, &second.2), (first.0, &first.2));
    let third = store.one(store.placed(order, &[("A", 3)])).await;
    assert_eq!((third.0, &*third.1, &third.2), (Success, "duplicate", &first.2));
    assert_eq!(store.stock("A").await, (7, 2));
}

async fn backorders_go_below_zero(store: &Store) {
    store.shop.put("A", &[], backorders(1)).await;
    assert_eq!(store.one(store.placed(store.id(), &[("A", 5)])).await.0, Success);
    assert_eq!(store.stock("A").await, (-4, 2));
    store.shop.put("B", &[], backorders(i64::MIN)).await;
    let (verdict, _, result) = store.one(store.placed(store.id(), &[("B", 5)])).await;
    assert_eq!((verdict, &result["lines"][0]["reason"]), (Rejected, &json!("out_of_range")));
}

async fn what_became_of_it_can_be_read(store: &Store) {
    store.shop.stock("A", 10).await;
    let order = store.id();
    let orders = crate::orders::Orders { db: store.shop.inventory.db.clone() };
    let read = async || {
        let app = actix_web::test::init_service(
            actix_web::App::new()
                .app_data(actix_web::web::Data::new(orders.clone()))
                .service(actix_web::web::scope("/api/v1").configure(crate::routes::configure)),
        )
        .await;
        let path = format!("/api/v1/orders/{order}");
        let request = actix_web::test::TestRequest::with_uri(&path).to_request();
        let response = actix_web::test::call_service(&app, request).await;
        let status = response.status().as_u16();
        let body = actix_web::test::read_body(response).await;
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    assert_eq!(read().await.0, 404);
    store.one(store.placed(order, &[("A", 3)])).await;
    store.one(store.cancelled(order)).await;
    let (status, body) = read().await;
    assert_eq!((status, &body["state"]), (200, &json!("RETURNED")));
    let line = json!({"sku": "A", "quantity": 3, "version": 2, "returned_version": 3});
    assert_eq!(body["lines"], json!([line]));
}

on_both_databases![
    all_lines_are_deducted_and_told,
    a_line_in_the_way_refuses_the_whole,
    however_often_it_comes_it_is_deducted_once,
    backorders_go_below_zero,
    what_became_of_it_can_be_read,
];
