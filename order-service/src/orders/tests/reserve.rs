//! When a promise ends: in every order of arrival exactly once, and never so that something looks free that is not.

use engine::kafka::Verdict::{Rejected, Success};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted, refused};

async fn the_answer_first(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 3)])).await;
    assert_eq!(fixture.copy("A").await, (10, 3, 7), "confirmed, but the copy is not there yet");
    fixture.arrive(vec![fixture.state("A", 2, 12, None)]).await;
    assert_eq!(fixture.copy("A").await, (12, 3, 9));
    fixture.arrive(vec![fixture.state("A", 3, 9, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (9, 0, 9));
    fixture.arrive(vec![fixture.state("A", 3, 9, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (9, 0, 9));
}

async fn the_event_first(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.arrive(vec![fixture.state("A", 2, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7), "pending, but the deduction is in the copy");
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 2)])).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7));
    assert_eq!(fixture.status(&id).await, "CONFIRMED");
}

async fn a_later_state_after_the_answer(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.placed(&[("A", 3)]).await;
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 3)])).await;
    fixture.arrive(vec![fixture.state("A", 9, 5, None)]).await;
    assert_eq!(fixture.copy("A").await, (5, 0, 5), "the deduction is in every state beyond it");
}

async fn a_later_state_before_the_answer(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.placed(&[("A", 3)]).await;
    fixture.arrive(vec![fixture.state("A", 9, 7, None)]).await;
    assert_eq!(fixture.copy("A").await, (7, 3, 4), "nobody has said yet that it is in: too little");
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 3)])).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7));
}

async fn a_later_state_before_the_event(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.arrive(vec![fixture.state("A", 9, 7, None)]).await;
    fixture.arrive(vec![fixture.state("A", 3, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7), "the event came late, and its cause counts");
}

async fn the_cause_of_a_folded_state(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 10).await;
    let one = fixture.placed(&[("A", 3), ("B", 1)]).await;
    let two = fixture.placed(&[("A", 2)]).await;
    fixture
        .arrive(vec![
            fixture.state("A", 2, 7, Some(&one)),
            fixture.state("A", 3, 5, Some(&two)),
            fixture.state("A", 4, 6, None),
        ])
        .await;
    assert_eq!(fixture.copy("A").await, (6, 0, 6));
    assert_eq!(fixture.copy("B").await, (10, 1, 9), "another product's promise stays");
}

async fn an_answer_that_is_no(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.placed(&[("A", 3)]).await;
    fixture.answer(&fixture.commands().await[0], Rejected, refused("A")).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
}

async fn a_new_epoch_is_younger_than_every_version(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.placed(&[("A", 3)]).await;
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 9)])).await;
    let mut restored = fixture.state("A", 2, 8, None);
    restored.epoch = 2;
    fixture.arrive(vec![restored]).await;
    assert_eq!(fixture.copy("A").await, (8, 0, 8));
}

/// A cancelled order's promise ends where its deduction arrives, and its return brings the stock back.
async fn a_cancelled_order_with_stock_in_between(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.cancel(&id).await;
    let result = json!({"deducted": deducted(&[("A", 2)]), "versions": {"A": 3}});
    fixture.answer(&fixture.commands().await[1], Success, result).await;
    assert_eq!(fixture.status(&id).await, "CANCELLED");
    assert_eq!(fixture.copy("A").await, (10, 3, 7));
    fixture.arrive(vec![fixture.state("A", 2, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (7, 0, 7));
    fixture.arrive(vec![fixture.state("A", 3, 10, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    fixture.answer(&fixture.commands().await[0], Success, deducted(&[("A", 2)])).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    assert_eq!(fixture.status(&id).await, "CANCELLED");
}

async fn a_return_that_comes_before_its_deduction(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    fixture.cancel(&id).await;
    fixture.arrive(vec![fixture.state("A", 3, 10, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    fixture.arrive(vec![fixture.state("A", 2, 7, Some(&id))]).await;
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
}

async fn a_known_version_is_named_with_the_tag_only_without_promises(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let known = [("if-none-match", "\"1\"")];
    let send = || fixture.send("GET", "/inventory/A", &known, serde_json::Value::Null);
    assert_eq!(send().await.status, 304);
    fixture.placed(&[("A", 3)]).await;
    let fresh = send().await;
    assert_eq!((fresh.status.as_u16(), fresh.header("etag")), (200, ""));
    assert_eq!(fresh.body["available"], 7);
}

on_every_database!(&OrdersFixture::new =>
    the_answer_first,
    the_event_first,
    a_later_state_after_the_answer,
    a_later_state_before_the_answer,
    a_later_state_before_the_event,
    the_cause_of_a_folded_state,
    an_answer_that_is_no,
    a_new_epoch_is_younger_than_every_version,
    a_cancelled_order_with_stock_in_between,
    a_return_that_comes_before_its_deduction,
    a_known_version_is_named_with_the_tag_only_without_promises,
);
