//! Cancelling, and every order in which the two answers may come.

use common::kafka::Verdict::{Rejected, Success};
use serde_json::{Value, json};

use super::desk::{Desk, deducted, refused};
use super::on_both_databases;

async fn a_cancellation_is_sent_once(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    let path = format!("/orders/{id}/cancel");
    let first = desk.send("POST", &path, &[], json!({"reason": "changed my mind"})).await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (202, &json!("CANCELLING")));
    let again = desk.cancel(&id).await;
    assert_eq!((again.status.as_u16(), &again.body), (202, &first.body));
    let commands = desk.commands().await;
    assert_eq!(commands.len(), 2);
    assert_eq!((&*commands[1].event_type, &*commands[1].key), ("stockloop.order.cancelled", &*id));
    let data: Value = serde_json::from_str(&commands[1].payload).unwrap();
    assert_eq!((&data["order_id"], &data["reason"]), (&json!(id), &json!("changed my mind")));
    assert_eq!(desk.copy("A").await, (10, 3, 7));
}

async fn a_confirmed_order_can_be_cancelled(desk: &Desk) {
    desk.stock("A", 10).await;
    let id = desk.placed(&[("A", 3)]).await;
    desk.answer(&desk.commands().await[0], Success, deducted(&[("A", 2)])).await;
    desk.arrive(vec![desk.state("A", 2, 7, Some(&id))]).await;
    assert_eq!(desk.cancel(&id).await.status, 202);
    let result = json!({"deducted": deducted(&[("A", 2)]), "versions": {"A": 3}});
    desk.answer(&desk.commands().await[1], Success, result).await;
    assert_eq!(desk.status(&id).await, "CANCELLED");
    desk.cancel(&id).await.assert_problem(409, "not-cancellable", "");
}

/// The cancellation came first at the owner: its tombstone makes the order's own command take nothing.
async fn a_cancellation_that_came_first(desk: &Desk) {
    for swapped in [false, true] {
        let sku = if swapped { "A" } else { "B" };
        desk.stock(sku, 10).await;
        let id = desk.placed(&[(sku, 3)]).await;
        desk.cancel(&id).await;
        let commands = desk.commands().await;
        let [placed, cancelled] = commands.last_chunk().unwrap();
        let no = (placed, Rejected, json!({"lines": [], "cancelled": true}));
        let done = (cancelled, Success, json!({"versions": {}}));
        let answers = if swapped { [done, no] } else { [no, done] };
        for answer in answers {
            desk.answers(&[answer]).await;
            assert_eq!(desk.copy(sku).await, (10, 0, 10));
        }
        assert_eq!(desk.status(&id).await, "CANCELLED");
    }
}

async fn a_rejected_order_has_nothing_to_cancel(desk: &Desk) {
    for swapped in [false, true] {
        let sku = if swapped { "A" } else { "B" };
        desk.stock(sku, 10).await;
        let id = desk.placed(&[(sku, 3)]).await;
        desk.cancel(&id).await;
        let commands = desk.commands().await;
        let [placed, cancelled] = commands.last_chunk().unwrap();
        let mut answers = [(placed, Rejected, refused(sku)), (cancelled, Rejected, refused(sku))];
        if swapped {
            answers.reverse();
        }
        desk.answers(&answers).await;
        let order = desk.order(&id).await;
        assert_eq!(order["status"], "REJECTED");
        assert_eq!(order["lines"][0]["reason"], "insufficient_stock");
        assert_eq!(desk.copy(sku).await, (10, 0, 10));
        desk.cancel(&id).await.assert_problem(409, "not-cancellable", "");
    }
}

async fn what_is_not_there_is_not_cancelled(desk: &Desk) {
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    desk.cancel(nobody).await.assert_problem(404, "not-found", "id");
    desk.cancel("abc").await.assert_problem(422, "invalid", "id");
    assert!(desk.commands().await.is_empty());
}

on_both_databases![
    a_cancellation_is_sent_once,
    a_confirmed_order_can_be_cancelled,
    a_cancellation_that_came_first,
    a_rejected_order_has_nothing_to_cancel,
    what_is_not_there_is_not_cancelled,
];
