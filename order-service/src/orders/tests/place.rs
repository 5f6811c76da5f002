//! Placing.

use common::copy_state::{self, CopyState};
use common::db::DbError;
use common::event::EventKind;
use serde_json::json;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::locks::until_waiting;
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, body};

async fn an_order_is_pending_promised_and_on_its_way(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 5).await;
    let response = fixture.place(&[("B", 2), ("A", 3), ("B", 1)]).await;
    assert_eq!(response.status, 201);
    let id = response.body["id"].as_str().unwrap();
    assert_eq!(response.header("location"), format!("/api/v1/orders/{id}"));
    assert_eq!(response.body["status"], "PENDING");
    assert_eq!(response.body["customer"], "17850");
    let lines = json!([{"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 3}]);
    assert_eq!(response.body["lines"], lines);
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
    assert_eq!(fixture.copy("B").await, (5, 3, 2));
    let commands = fixture.commands().await;
    assert_eq!((&*commands[0].event_type, &*commands[0].key), ("stockloop.order.placed", id));
    assert_eq!((commands[0].kind, commands[0].version), (EventKind::Command, 0));
    let data: serde_json::Value = serde_json::from_str(&commands[0].payload).unwrap();
    assert_eq!(data["order_id"], id);
    assert_eq!((&data["customer"], &data["lines"]), (&json!("17850"), &lines));
    assert_eq!(fixture.order(id).await, response.body);
}

async fn every_line_that_stands_in_the_way_is_told(fixture: &OrdersFixture) {
    fixture.complete_copy().await;
    fixture.stock("A", 10).await;
    fixture.stock("B", 5).await;
    fixture.stock("GONE", 5).await;
    let mut removal = fixture.state("GONE", 2, 0, None);
    removal.event_type = "stockloop.inventory.removed".to_owned();
    let text = String::from_utf8(removal.data).unwrap();
    removal.data = text.replace("\"removed\":false", "\"removed\":true").into_bytes();
    fixture.arrive(vec![removal]).await;
    let lines = [("A", 1), ("B", 3), ("NONE", 1), ("B", 3), ("GONE", 1)];
    let response = fixture.place(&lines).await;
    response.assert_problem(409, "not-available", "lines");
    let errors = response.body["errors"].as_array().unwrap();
    let told: Vec<(&str, &str)> = errors
        .iter()
        .map(|e| (e["field"].as_str().unwrap(), e["reason"].as_str().unwrap()))
        .collect();
    let wanted = [
        ("lines[1]", "insufficient_stock"),
        ("lines[2]", "unknown_product"),
        ("lines[3]", "insufficient_stock"),
        ("lines[4]", "removed_product"),
    ];
    assert_eq!(told, wanted);
    assert_eq!(errors[0]["detail"], "6 of B are wanted, and 5 are available");
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    assert!(fixture.commands().await.is_empty());
}

async fn what_is_not_known_may_come_until_the_copy_is_complete(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let refused = fixture.place(&[("A", 1), ("NONE", 1)]).await;
    refused.assert_problem(503, "copy-not-complete", "lines");
    let errors = refused.body["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "of what is known, nothing is said: {errors:?}");
    assert_eq!(
        (&errors[0]["field"], &errors[0]["reason"]),
        (&json!("lines[1]"), &json!("unknown_product"))
    );
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(fixture.place(&[("A", 11)]).await.status, 409, "of what is known, all is known");
    assert_eq!(fixture.place(&[("A", 1)]).await.status, 201);
    fixture.complete_copy().await;
    fixture.place(&[("A", 1), ("NONE", 1)]).await.assert_problem(409, "not-available", "lines");
}

/// The migration's trigger makes it another copy.
async fn an_emptied_copy_is_not_complete_any_more(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 10).await;
    fixture.complete_copy().await;
    let before = state(fixture).await;
    delete(fixture, "DELETE FROM product_copy WHERE sku = 'A'").await;
    assert_eq!(state(fixture).await, before, "it is still the same copy");
    delete(fixture, "DELETE FROM product_copy").await;
    let after = state(fixture).await;
    assert!(!after.is_complete() && after.copy_id != before.copy_id, "{after:?}");
    fixture.place(&[("A", 1)]).await.assert_problem(503, "copy-not-complete", "lines");
}

/// A key that arrives while all are deleted is none of those that the statement saw.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_arrives_while_a_copy_is_emptied_does_not_hide_that() {
    let Some(database) = TestDatabase::postgres() else { return };
    let fixture = &OrdersFixture::new(database);
    for sku in ["A", "B", "C"] {
        fixture.stock(sku, 10).await;
    }
    fixture.complete_copy().await;
    let before = state(fixture).await;
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let arriving = fixture.write(move |conn| {
        conn.batch_execute("UPDATE product_copy SET quantity = 9 WHERE sku = 'A'; INSERT INTO product_copy \
            SELECT 'NEW', description, quantity, unit_price_minor, allow_backorder, removed, epoch, version, \
            updated_us, applied_us FROM product_copy WHERE sku = 'B'")?;
        let _ = locked.send(());
        // Until the other one waits for the row.
        until_waiting(conn, 1).map_err(DbError::from)
    });
    let emptying = async {
        is_locked.await.unwrap();
        delete(fixture, "DELETE FROM product_copy").await;
    };
    tokio::join!(arriving, emptying);
    let after = state(fixture).await;
    assert_eq!(fixture.copy("NEW").await.0, 10, "it was not deleted");
    assert!(!after.is_complete() && after.copy_id != before.copy_id, "{after:?}");
}

async fn what_is_promised_outlives_an_emptied_copy(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.complete_copy().await;
    assert_eq!(fixture.place(&[("A", 3)]).await.status, 201);
    delete(fixture, "DELETE FROM product_copy").await;
    fixture.stock("A", 10).await;
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
}

async fn delete(fixture: &OrdersFixture, sql: &'static str) {
    fixture.write(move |conn| conn.batch_execute(sql).map_err(DbError::from)).await;
}

async fn state(fixture: &OrdersFixture) -> CopyState {
    fixture.write(|conn| copy_state::read(conn).map_err(DbError::from)).await.unwrap()
}

async fn what_is_promised_is_not_promised_again(fixture: &OrdersFixture) {
    fixture.stock("A", 3).await;
    fixture.placed(&[("A", 2)]).await;
    fixture.place(&[("A", 2)]).await.assert_problem(409, "not-available", "lines");
    fixture.placed(&[("A", 1)]).await;
    fixture.place(&[("A", 1)]).await.assert_problem(409, "not-available", "lines");
    assert_eq!(fixture.copy("A").await, (3, 3, 0));
    fixture.stock("BACK", 1).await;
    fixture.placed(&[("BACK", 5)]).await;
    assert_eq!(fixture.copy("BACK").await, (1, 5, -4));
}

async fn many_at_once_do_not_oversell(fixture: &OrdersFixture) {
    fixture.stock("A", 5).await;
    fixture.stock("B", 5).await;
    let mut taken = 0;
    for _ in 0..3 {
        let (one, two, three, four) = tokio::join!(
            fixture.place(&[("A", 1), ("B", 1)]),
            fixture.place(&[("B", 1), ("A", 1)]),
            fixture.place(&[("A", 1)]),
            fixture.place(&[("B", 1)]),
        );
        for response in [one, two, three, four] {
            match response.status.as_u16() {
                201 => taken += 1,
                status => assert_eq!(status, 409, "{response:?}"),
            }
        }
    }
    let (a, b) = (fixture.copy("A").await, fixture.copy("B").await);
    assert!(a.2 >= 0 && b.2 >= 0, "{a:?} {b:?}");
    assert!((5..=10).contains(&taken), "{taken}");
    fixture.check_sums().await;
}

async fn the_same_request_is_one_order(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let key = [("idempotency-key", "k1")];
    let first = fixture.send("POST", "/orders", &key, body(&[("A", 1)])).await;
    let second = fixture.send("POST", "/orders", &key, body(&[("A", 1)])).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(fixture.commands().await.len(), 1);
    let other = fixture.send("POST", "/orders", &key, body(&[("A", 2)])).await;
    other.assert_problem(422, "invalid", "Idempotency-Key");
}

async fn what_is_no_order_is_refused_by_field(fixture: &OrdersFixture) {
    let many: Vec<_> = (0..1_001).map(|n| json!({"sku": format!("S{n}"), "quantity": 1})).collect();
    for (body, field) in [
        (json!({"lines": [{"sku": "A", "quantity": 1}]}), "customer"),
        (json!({"customer": "", "lines": [{"sku": "A", "quantity": 1}]}), "customer"),
        (json!({"customer": "c\u{200b}", "lines": [{"sku": "A", "quantity": 1}]}), "customer"),
        (json!({"customer": " c", "lines": [{"sku": "A", "quantity": 1}]}), "customer"),
        (json!({"customer": "e\u{301}", "lines": [{"sku": "A", "quantity": 1}]}), "customer"),
        (json!({"customer": "c", "lines": []}), "lines"),
        (json!({"customer": "c", "lines": many}), "lines"),
        (json!({"customer": "c", "lines": [{"sku": "A", "quantity": 0}]}), "lines[0].quantity"),
        (json!({"customer": "c", "lines": [{"sku": "A", "quantity": 1.5}]}), "lines[0].quantity"),
        (json!({"customer": "c", "lines": [{"sku": "", "quantity": 1}]}), "lines[0].sku"),
        (
            json!({"customer": "c", "lines": [{"sku": "A", "quantity": 1_000_000_001}]}),
            "lines[0].quantity",
        ),
    ] {
        fixture.send("POST", "/orders", &[], body).await.assert_problem(422, "invalid", field);
    }
    assert!(fixture.commands().await.is_empty());
}

async fn a_thousand_lines_are_an_order(fixture: &OrdersFixture) {
    let skus: Vec<String> = (0..1_000).map(|n| format!("S{n:04}")).collect();
    fixture.arrive(skus.iter().map(|sku| fixture.state(sku, 1, 5, None)).collect()).await;
    let lines: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 2)).collect();
    let id = fixture.placed(&lines).await;
    assert_eq!(fixture.order(&id).await["lines"].as_array().unwrap().len(), 1_000);
    assert_eq!(fixture.copy("S0999").await, (5, 2, 3));
}

on_every_database!(&OrdersFixture::new =>
    an_order_is_pending_promised_and_on_its_way,
    every_line_that_stands_in_the_way_is_told,
    what_is_not_known_may_come_until_the_copy_is_complete,
    an_emptied_copy_is_not_complete_any_more,
    what_is_promised_outlives_an_emptied_copy,
    what_is_promised_is_not_promised_again,
    many_at_once_do_not_oversell,
    the_same_request_is_one_order,
    what_is_no_order_is_refused_by_field,
    a_thousand_lines_are_an_order,
);
