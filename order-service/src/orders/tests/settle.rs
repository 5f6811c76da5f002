//! The owner's answers on an order.

use engine::kafka::Verdict::{Failed, Rejected, Success};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::orders_fixture::{OrdersFixture, deducted, refused};

async fn a_success_confirms_and_names_the_versions(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 10).await;
    let id = fixture.placed(&[("A", 3), ("B", 1)]).await;
    let command = &fixture.commands().await[0];
    fixture.answer(command, Success, deducted(&[("A", 2), ("B", 7)])).await;
    let order = fixture.order(&id).await;
    assert_eq!((&order["status"], &order["revision"]), (&json!("CONFIRMED"), &json!(2)));
    assert_eq!(order["lines"][1], json!({"sku": "B", "quantity": 1, "version": 7}));
    assert_eq!(fixture.timeline(&id).await[1], ("stock deducted".into(), "CONFIRMED".into()));
    assert_eq!(fixture.open_commands().await, 0);
    fixture.answer(command, Success, deducted(&[("A", 2), ("B", 7)])).await;
    assert_eq!(fixture.order(&id).await["revision"], 2, "the same answer again changes nothing");
}

async fn a_rejection_gives_the_reasons_and_frees_the_stock(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    fixture.stock("B", 10).await;
    let id = fixture.placed(&[("A", 3), ("B", 1)]).await;
    fixture.answer(&fixture.commands().await[0], Rejected, refused("A")).await;
    let order = fixture.order(&id).await;
    assert_eq!(order["status"], "REJECTED");
    let line =
        json!({"sku": "A", "quantity": 3, "reason": "insufficient_stock", "detail": "it has 2"});
    assert_eq!(order["lines"], json!([line, {"sku": "B", "quantity": 1}]));
    assert_eq!(fixture.copy("A").await, (10, 0, 10));
    assert_eq!(fixture.open_commands().await, 0, "a rejection settles the event");
}

async fn a_failure_that_goes_on_by_itself_changes_nothing(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let id = fixture.placed(&[("A", 3)]).await;
    let command = &fixture.commands().await[0];
    // The settler's answers here are not retryable, so a batch with the cure in it tells both in order.
    fixture
        .answers(&[(command, Failed, Value::Null), (command, Success, deducted(&[("A", 2)]))])
        .await;
    let steps: Vec<String> = fixture.timeline(&id).await.into_iter().map(|step| step.1).collect();
    assert_eq!(steps, ["PENDING", "NEEDS_ATTENTION", "CONFIRMED"]);
}

async fn an_answer_without_a_readable_result_counts(fixture: &OrdersFixture) {
    fixture.stock("A", 10).await;
    let one = fixture.placed(&[("A", 1)]).await;
    let two = fixture.placed(&[("A", 1)]).await;
    let commands = fixture.commands().await;
    fixture.answer(&commands[0], Success, json!("odd")).await;
    fixture.answer(&commands[1], Rejected, Value::Null).await;
    assert_eq!(fixture.status(&one).await, "CONFIRMED");
    assert_eq!(fixture.status(&two).await, "REJECTED");
    assert_eq!(
        fixture.copy("A").await,
        (10, 1, 9),
        "what was taken stays promised until it arrives"
    );
    fixture.arrive(vec![fixture.state("A", 2, 9, Some(&one))]).await;
    assert_eq!(fixture.copy("A").await, (9, 0, 9));
}

async fn many_answers_are_taken_at_once(fixture: &OrdersFixture) {
    fixture.stock("A", 1_000).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(fixture.placed(&[("A", 1)]).await);
    }
    let commands = fixture.commands().await;
    let answers: Vec<_> = commands
        .iter()
        .zip(2..)
        .map(|(command, version)| match version % 2 {
            0 => (command, Success, deducted(&[("A", version)])),
            _ => (command, Rejected, refused("A")),
        })
        .collect();
    fixture.answers(&answers).await;
    for (place, id) in ids.iter().enumerate() {
        let wanted = if place % 2 == 0 { "CONFIRMED" } else { "REJECTED" };
        assert_eq!(fixture.status(id).await, wanted);
    }
    assert_eq!(fixture.copy("A").await, (1_000, 20, 980));
}

on_every_database!(&OrdersFixture::new =>
    a_success_confirms_and_names_the_versions,
    a_rejection_gives_the_reasons_and_frees_the_stock,
    a_failure_that_goes_on_by_itself_changes_nothing,
    an_answer_without_a_readable_result_counts,
    many_answers_are_taken_at_once,
);
