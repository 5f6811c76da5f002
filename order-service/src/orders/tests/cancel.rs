//! Cancelling, and every order in which the two answers may come.

use engine::kafka::Verdict::{Rejected, Success};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted, refused};

async fn a_cancellation_is_sent_once(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let path = format!("/orders/{id}/cancel");
    let first = fixture.send("POST", &path, &[], json!({"reason": "changed my mind"})).await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (202, &json!("CANCELLING")));
    let again = fixture.cancel(&id).await;
    assert_eq!((again.status.as_u16(), &again.body), (202, &first.body));
    let commands = fixture.commands().await;
    assert_eq!(commands.len(), 2);
    assert_eq!((&*commands[1].event_type, &*commands[1].key), ("stockloop.order.cancelled", &*id));
    let data: Value = serde_json::from_str(&commands[1].payload).unwrap();
    assert_eq!((&data["order_id"], &data["reason"]), (&json!(id), &json!("changed my mind")));
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
}

async fn a_confirmed_order_can_be_cancelled(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 2)])).await;
    fixture.arrive(vec![fixture.state("A", 2, 7, Some(&id))]).await;
    assert_eq!(fixture.cancel(&id).await.status, 202);
    let result = json!({"deducted": deducted(&[("A", 2)]), "versions": {"A": 3}});
    fixture.answer(&fixture.commands().await[1], Success, result).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
    fixture.cancel(&id).await.assert_problem(409, "not-cancellable", "");
}

/// The cancellation came first at the owner: its tombstone makes the order's own command take nothing.
async fn a_cancellation_that_came_first(fixture: &OrdersFixture) {
    for swapped in [false, true] {
        let sku = if swapped { "A" } else { "B" };
        fixture.stock(sku, 10).await;
        let id = fixture.placed(&[(sku, 3)]).await;
        fixture.cancel(&id).await;
        let commands = fixture.commands().await;
        let [placed, cancelled] = commands.last_chunk().unwrap();
        let no = (placed, Rejected, json!({"lines": [], "cancelled": true}));
        let done = (cancelled, Success, json!({"versions": {}}));
        let answers = if swapped { [done, no] } else { [no, done] };
        for answer in answers {
            fixture.answers(&[answer]).await;
            assert_eq!(fixture.copy(sku).await, (10, 0, 10));
        }
        assert_eq!(fixture.status(&id).await, "CANCELLED");
    }
}

async fn a_rejected_order_has_nothing_to_cancel(fixture: &OrdersFixture) {
    for swapped in [false, true] {
        let sku = if swapped { "A" } else { "B" };
        fixture.stock(sku, 10).await;
        let id = fixture.placed(&[(sku, 3)]).await;
        fixture.cancel(&id).await;
        let commands = fixture.commands().await;
        let [placed, cancelled] = commands.last_chunk().unwrap();
        let mut answers = [(placed, Rejected, refused(sku)), (cancelled, Rejected, refused(sku))];
        if swapped {
            answers.reverse();
        }
        fixture.answers(&answers).await;
        let order = fixture.order(&id).await;
        assert_eq!(order["status"], "REJECTED");
        assert_eq!(order["lines"][0]["reason"], "insufficient_stock");
        assert_eq!(fixture.copy(sku).await, (10, 0, 10));
        fixture.cancel(&id).await.assert_problem(409, "not-cancellable", "");
    }
}

async fn what_is_not_there_is_not_cancelled(fixture: &OrdersFixture) {
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    fixture.cancel(nobody).await.assert_problem(404, "not-found", "id");
    fixture.cancel("abc").await.assert_problem(422, "invalid", "id");
    assert!(fixture.commands().await.is_empty());
}

on_every_database!(&OrdersFixture::new =>
    a_cancellation_is_sent_once,
    a_confirmed_order_can_be_cancelled,
    a_cancellation_that_came_first,
    a_rejected_order_has_nothing_to_cancel,
    what_is_not_there_is_not_cancelled,
);
