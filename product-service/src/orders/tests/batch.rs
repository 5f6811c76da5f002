//! Many commands in one batch.

use engine::kafka::Verdict::{Rejected, Success};
use serde_json::json;
use stockloop_tests::on_every_database;

use super::stock_fixture::{StockFixture, contents};
use crate::orders::OrderState;

async fn commands_are_taken_in_the_order_of_arrival(fixture: &StockFixture) {
    fixture.products.stock("A", 5).await;
    let ids: Vec<_> = (0..4).map(|_| fixture.id()).collect();
    let answers = fixture
        .arrive(vec![
            fixture.placed(ids[0], &[("A", 3)]),
            fixture.placed(ids[1], &[("A", 3)]),
            fixture.cancelled(ids[0]),
            fixture.placed(ids[2], &[("A", 3)]),
            fixture.cancelled(ids[3]),
            fixture.placed(ids[3], &[("A", 1)]),
            fixture.placed(ids[0], &[("A", 3)]),
        ])
        .await;
    let outcomes: Vec<_> = answers.iter().map(|ack| ack.outcome).collect();
    assert_eq!(outcomes, [Success, Rejected, Success, Success, Success, Rejected, Success]);
    assert_eq!(contents(&answers[3]).2, json!({"epoch": 1, "versions": {"A": 4}}));
    assert_eq!(contents(&answers[6]).1, "duplicate");
    assert_eq!(fixture.stock("A").await, (2, 4));
    let versions: Vec<i64> =
        fixture.products.events().await.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 3, 4], "ids grow with versions");
    let states =
        [OrderState::Returned, OrderState::Refused, OrderState::Deducted, OrderState::Cancelled];
    for (id, state) in ids.into_iter().zip(states) {
        assert_eq!(fixture.record(id).await.unwrap().0.state, state);
    }
}

async fn a_batch_may_be_large(fixture: &StockFixture) {
    fixture.products.stock("A", 2_000).await;
    fixture.products.stock("B", 999).await;
    let ids: Vec<_> = (0..1_500).map(|_| fixture.id()).collect();
    let commands: Vec<_> =
        ids.iter().map(|id| fixture.placed(*id, &[("A", 1), ("B", 1)])).collect();
    let answers = fixture.arrive(commands).await;
    assert_eq!(answers.iter().filter(|ack| ack.outcome == Success).count(), 999);
    assert_eq!((fixture.stock("A").await, fixture.stock("B").await), ((1_001, 1_000), (0, 1_000)));
    let cancels: Vec<_> = ids.iter().map(|id| fixture.cancelled(*id)).collect();
    fixture.arrive(cancels).await;
    assert_eq!(
        (fixture.stock("A").await, fixture.stock("B").await),
        ((2_000, 1_999), (999, 1_999))
    );
}

/// Orders that take the same products at once, in several consumers, beside adjustments.
async fn batches_at_once_take_what_there_is(fixture: &StockFixture) {
    fixture.products.stock("A", 20).await;
    fixture.products.stock("B", 20).await;
    let batch = |lines: [(&str, i64); 2]| {
        (0..10).map(|_| fixture.placed(fixture.id(), &lines)).collect::<Vec<_>>()
    };
    let (one, two, three, _) = tokio::join!(
        fixture.arrive(batch([("A", 1), ("B", 1)])),
        fixture.arrive(batch([("B", 1), ("A", 1)])),
        fixture.arrive(batch([("A", 1), ("B", 1)])),
        fixture.products.adjust("A", &[], crate::inventory::tests::product_fixture::delta(5)),
    );
    let taken = [one, two, three].iter().flatten().filter(|ack| ack.outcome == Success).count();
    assert_eq!(taken, 20);
    assert_eq!((fixture.stock("A").await.0, fixture.stock("B").await.0), (5, 0));
}

on_every_database!(&StockFixture::new =>
    commands_are_taken_in_the_order_of_arrival,
    a_batch_may_be_large,
    batches_at_once_take_what_there_is,
);
