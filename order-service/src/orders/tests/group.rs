//! Orders that share a transaction: each is answered as if it had come alone.

use std::collections::BTreeSet;
use std::time::Duration;

use common::db::{Backend, Conn, DbError};
use common::http::GroupWork;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use futures::future::join_all;
use serde_json::{Value, json};
use stockloop_tests::database::refuse_poison;
use stockloop_tests::http::TestResponse;
use stockloop_tests::locks::keep_open;
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, body};
use crate::orders::{Orders, PlaceOrder};
use crate::schema::product_copy;

fn statuses(answers: &[TestResponse]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status.as_u16()).collect()
}

/// Sends all at once, each a customer's order of one piece.
async fn of_customers(fixture: &OrdersFixture, sku: &str, customers: &[&str]) -> Vec<TestResponse> {
    let order = |customer: &&str| {
        let order = json!({"customer": customer, "lines": [{"sku": sku, "quantity": 1}]});
        fixture.send("POST", "/orders", &[], order)
    };
    join_all(customers.iter().map(order)).await
}

async fn each_is_decided_after_those_before_it(fixture: &OrdersFixture) {
    fixture.complete_copy().await;
    fixture.stock("A", 10).await;
    fixture.stock("B", 5).await;
    let (some, unknown, both) = tokio::join!(
        join_all((0..30).map(|_| fixture.place(&[("A", 1)]))),
        fixture.place(&[("NONE", 1), ("B", 1)]),
        join_all((0..3).map(|_| fixture.place(&[("B", 2)]))),
    );
    let (placed, refused): (Vec<_>, Vec<_>) = some.iter().partition(|one| one.status == 201);
    assert_eq!((placed.len(), refused.len()), (10, 20));
    for refused in refused {
        refused.assert_problem(409, "not-available", "lines");
    }
    unknown.assert_problem(409, "not-available", "lines");
    let mut of_both = statuses(&both);
    of_both.sort_unstable();
    assert_eq!(of_both, [201, 201, 409]);
    assert_eq!(fixture.copy("A").await, (10, 10, 0));
    assert_eq!(fixture.copy("B").await, (5, 4, 1));
    fixture.check_sums().await;
    let ids: BTreeSet<&str> = placed.iter().map(|one| one.body["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 10);
    assert_eq!(fixture.commands().await.len(), 12);
    for placed in placed {
        assert_eq!(fixture.order(placed.body["id"].as_str().unwrap()).await, placed.body);
    }
}

async fn a_refused_one_spoils_nothing(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let (one, refused, other, early) = tokio::join!(
        fixture.place(&[("A", 3)]),
        fixture.place(&[("A", 11)]),
        fixture.place(&[("A", 4)]),
        fixture.place(&[("NONE", 1)]),
    );
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (201, 201));
    refused.assert_problem(409, "not-available", "lines");
    early.assert_problem(503, "copy-not-complete", "lines");
    assert_eq!(early.header("retry-after"), "5");
    assert_eq!(fixture.copy("A").await, (10, 7, 3));
    assert_eq!(fixture.commands().await.len(), 2);
}

#[test]
fn an_order_weighs_as_much_as_it_has_lines() {
    let order: PlaceOrder = serde_json::from_value(body(&[("A", 1), ("B", 9), ("A", 2)])).unwrap();
    assert_eq!(Orders::weight(&order), 3);
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

async fn those_that_come_at_once_share_transactions(fixture: &OrdersFixture) {
    if fixture.orders.db.backend() == Backend::Sqlite {
        // Its rows do not tell.
        return;
    }
    fixture.stock("A", 100).await;
    let placed = join_all((0..40).map(|_| fixture.place(&[("A", 1)]))).await;
    assert_eq!(statuses(&placed), [201; 40]);
    let count = |conn: &mut Conn| {
        let counted = "SELECT count(DISTINCT xmin::text) AS n FROM orders";
        let counted: Count = on!(conn, c => sql_query(counted).get_result(c))?;
        Ok::<_, DbError>(counted.n)
    };
    let transactions = fixture.write(count).await;
    assert!(transactions < 40, "{transactions}");
}

async fn each_keeps_its_own_answer(fixture: &OrdersFixture) {
    fixture.stock("A", 100).await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let send = async |pieces: i64| {
        let headers: Vec<_> = keys.iter().map(|key| [("idempotency-key", key.as_str())]).collect();
        let orders = headers.iter();
        let orders = orders.map(|key| fixture.send("POST", "/orders", key, body(&[("A", pieces)])));
        join_all(orders).await
    };
    let first = send(1).await;
    let second = send(1).await;
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((first.status.as_u16(), &first.body), (201, &second.body));
        assert_eq!(first.header("location"), second.header("location"));
        assert_eq!(second.header("idempotent-replayed"), "true");
    }
    for other in send(2).await {
        other.assert_problem(422, "invalid", "Idempotency-Key");
    }
    assert_eq!(fixture.copy("A").await, (100, 20, 80));
    assert_eq!(fixture.commands().await.len(), 20);
}

async fn keyed(fixture: &OrdersFixture, key: &str, pieces: i64) -> TestResponse {
    fixture.send("POST", "/orders", &[("idempotency-key", key)], body(&[("A", pieces)])).await
}

async fn one_key_at_once_is_as_one_after_the_other(fixture: &OrdersFixture) {
    fixture.complete_copy().await;
    fixture.stock("A", 5).await;
    let (same, one, other, refused) = tokio::join!(
        join_all((0..3).map(|_| keyed(fixture, "once", 1))),
        keyed(fixture, "either", 1),
        keyed(fixture, "either", 2),
        join_all((0..2).map(|_| keyed(fixture, "never", 6))),
    );
    assert_eq!(statuses(&same), [201; 3]);
    assert!(same.iter().all(|again| again.body == same[0].body), "{same:?}");
    let (placed, misused) = if one.status == 201 { (one, other) } else { (other, one) };
    assert_eq!(placed.status, 201);
    misused.assert_problem(422, "invalid", "Idempotency-Key");
    for refused in refused {
        refused.assert_problem(409, "not-available", "lines");
    }
    assert_eq!(fixture.commands().await.len(), 2);
    fixture.check_sums().await;
}

async fn a_failure_is_of_one_alone(fixture: &OrdersFixture) {
    fixture.stock("A", 100).await;
    let refuse = |conn: &mut Conn| refuse_poison(conn, "orders", "customer").map_err(DbError::from);
    fixture.write(refuse).await;
    let customers = ["1", "poison", "2", "3", "poison", "4", "5"];
    for _ in 0..3 {
        let answers = of_customers(fixture, "A", &customers).await;
        for (answer, customer) in answers.iter().zip(customers) {
            let wanted = if customer == "poison" { 500 } else { 201 };
            assert_eq!(answer.status, wanted, "{answer:?}");
        }
    }
    assert_eq!(fixture.copy("A").await, (100, 15, 85));
    assert_eq!(fixture.commands().await.len(), 15);
    fixture.check_sums().await;
}

async fn none_waits_for_what_another_writer_holds(fixture: &OrdersFixture) {
    if fixture.orders.db.backend() == Backend::Sqlite {
        // There is one writer.
        return;
    }
    for sku in ["A", "B"] {
        fixture.stock(sku, 100).await;
    }
    let hold = |conn: &mut Conn| {
        on!(conn, c => diesel::update(product_copy::table.find("A"))
            .set(product_copy::quantity.eq(6_i64))
            .execute(c))?;
        Ok::<_, DbError>(())
    };
    let held = keep_open(&fixture.orders.db, hold).await;
    let of_held = join_all((0..8).map(|_| fixture.place(&[("B", 1), ("A", 1)])));
    let others = async {
        for _ in 0..3 {
            let free = join_all((0..4).map(|_| fixture.place(&[("B", 1)]))).await;
            assert_eq!(statuses(&free), [201; 4]);
        }
        held.commit().await;
    };
    let (of_held, ()) = tokio::join!(of_held, others);
    let mut statuses = statuses(&of_held);
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 201, 201, 201, 201, 409, 409], "what was written counts");
    assert_eq!(fixture.copy("A").await, (6, 6, 0));
    assert_eq!(fixture.copy("B").await, (100, 18, 82));
    fixture.check_sums().await;
}

async fn whoever_hangs_up_leaves_nothing_half_done(fixture: &OrdersFixture) {
    fixture.stock("A", 1_000).await;
    for patience in (0..20).map(Duration::from_millis) {
        let orders = join_all((0..4).map(|_| fixture.place(&[("A", 1)])));
        let _ = tokio::time::timeout(patience, orders).await;
    }
    // It waits for all that have left before.
    fixture.placed(&[("A", 1)]).await;
    let commands = fixture.commands().await;
    let reserved = fixture.copy("A").await.1;
    assert_eq!(usize::try_from(reserved).unwrap(), commands.len());
    for command in commands {
        assert_eq!(fixture.order(&command.key).await["lines"][0]["quantity"], Value::from(1));
    }
}

on_every_database!(&OrdersFixture::new =>
    each_is_decided_after_those_before_it,
    a_refused_one_spoils_nothing,
    those_that_come_at_once_share_transactions,
    each_keeps_its_own_answer,
    one_key_at_once_is_as_one_after_the_other,
    a_failure_is_of_one_alone,
    none_waits_for_what_another_writer_holds,
    whoever_hangs_up_leaves_nothing_half_done,
);
