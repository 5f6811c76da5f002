//! `Idempotency-Key` on orders.

use serde_json::json;
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, body};

const KEY: (&str, &str) = ("idempotency-key", "k1");

async fn a_refused_order_is_decided_anew(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let place = async || fixture.send("POST", "/orders", &[KEY], body(&[("A", 99)])).await;
    place().await.assert_problem(409, "not-available", "lines");
    fixture.arrive(vec![fixture.state("A", 2, 100, None)]).await;
    let placed = place().await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let again = place().await;
    assert_eq!((again.status, &again.body), (placed.status, &placed.body));
    assert_eq!(fixture.commands().await.len(), 1);
    assert_eq!(fixture.copy("A").await, (100, 99, 1));
}

async fn other_preconditions_are_another_request(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let place = async |headers: &[(&str, &str)]| {
        fixture.send("POST", "/orders", headers, body(&[("A", 1)])).await
    };
    assert_eq!(place(&[KEY]).await.status, 201);
    let other = place(&[KEY, ("if-none-match", "*")]).await;
    other.assert_problem(422, "invalid", "Idempotency-Key");
    assert_eq!(fixture.commands().await.len(), 1);
}

async fn an_address_is_one_however_it_is_spelled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let spelled: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let cancel = async |id: &str, reason: &str| {
        let path = format!("/orders/{id}/cancel");
        fixture.send("POST", &path, &[KEY], json!({ "reason": reason })).await
    };
    let first = cancel(&id, "too late").await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(cancel(&spelled, "too late").await.body, first.body);
    cancel(&spelled, "too dear").await.assert_problem(422, "invalid", "Idempotency-Key");
    assert_eq!(fixture.commands().await.len(), 2);
}

on_every_database!(&OrdersFixture::new =>
    a_refused_order_is_decided_anew,
    other_preconditions_are_another_request,
    an_address_is_one_however_it_is_spelled,
);
