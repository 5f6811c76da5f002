//! One order as a stream of events.

use std::time::Duration;

use actix_web::web::Data;
use common::signals::Signals;
use engine::kafka::Verdict::{Failed, Rejected, Success};
use serde_json::Value;
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted, refused};
use crate::orders::Orders;
use crate::routes::order_lanes;

const STREAM: [(&str, &str); 1] = [("accept", "text/event-stream")];

/// The statuses that a stream told.
fn statuses(response: &TestResponse) -> Vec<String> {
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "text/event-stream");
    let text = response.body.as_str().unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let status = |data: &str| -> Value { serde_json::from_str(data).unwrap() };
    data.map(|data| status(data)["status"].as_str().unwrap().to_owned()).collect()
}

async fn a_settled_order_is_told_once(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 1)]).await;
    fixture.answer(&fixture.commands().await[0], Rejected, refused("A")).await;
    let response = fixture.send("GET", &format!("/orders/{id}"), &STREAM, Value::Null).await;
    assert_eq!(statuses(&response), ["REJECTED"]);
    let nobody = "/orders/01890a5d-ac96-774b-bcce-b302099a8057";
    fixture.send("GET", nobody, &STREAM, Value::Null).await.assert_problem(404, "not-found", "id");
}

async fn each_change_is_told_until_it_is_settled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 1)]).await;
    let command = fixture.commands().await.remove(0);
    let path = format!("/orders/{id}");
    let work = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fixture.answer(&command, Failed, Value::Null).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        fixture.answer(&command, Success, deducted(&[("A", 2)])).await;
    };
    let started = std::time::Instant::now();
    let (response, ()) = tokio::join!(fixture.send("GET", &path, &STREAM, Value::Null), work);
    assert_eq!(statuses(&response), ["PENDING", "NEEDS_ATTENTION", "CONFIRMED"]);
    assert!(started.elapsed() < Duration::from_millis(1_800), "it is told at once, not by looking");
}

/// Another instance settles: nobody tells this one, and it finds out by itself.
async fn what_nobody_tells_is_found(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 1)]).await;
    let command = fixture.commands().await.remove(0);
    let other = Orders { signals: Signals::default(), ..fixture.orders.clone() };
    let work = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fixture.answer(&command, Success, deducted(&[("A", 2)])).await;
    };
    let (path, lanes) = (format!("/orders/{id}"), Data::new(order_lanes(&other)));
    let look = OrdersFixture::send_to(&other, &lanes, "GET", &path, &STREAM, Value::Null);
    let (response, ()) = tokio::join!(look, work);
    assert_eq!(statuses(&response), ["PENDING", "CONFIRMED"]);
}

async fn streams_are_limited_and_end_with_the_service(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 1)]).await;
    let places: Vec<_> =
        (0..255).map(|_| fixture.orders.signals.wait_for("another", 256).unwrap()).collect();
    let path = format!("/orders/{id}");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let refused = fixture.send("GET", &path, &STREAM, Value::Null).await;
        refused.assert_problem(503, "unavailable", "");
        fixture.orders.stopping.cancel();
    };
    let (response, ()) = tokio::join!(fixture.send("GET", &path, &STREAM, Value::Null), stop);
    assert_eq!(statuses(&response), ["PENDING"]);
    drop(places);
}

on_every_database!(&OrdersFixture::new =>
    a_settled_order_is_told_once,
    each_change_is_told_until_it_is_settled,
    what_nobody_tells_is_found,
    streams_are_limited_and_end_with_the_service,
);
