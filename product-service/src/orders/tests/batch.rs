//! Many commands in one batch.

use common::kafka::Verdict::{Rejected, Success};
use serde_json::json;

use super::on_both_databases;
use super::store::{Store, told};
use crate::orders::State;

async fn commands_are_taken_in_the_order_of_arrival(store: &Store) {
    store.shop.stock("A", 5).await;
    let ids: Vec<_> = (0..4).map(|_| store.id()).collect();
    let answers = store
        .arrive(vec![
            store.placed(ids[0], &[("A", 3)]),
            store.placed(ids[1], &[("A", 3)]),
            store.cancelled(ids[0]),
            store.placed(ids[2], &[("A", 3)]),
            store.cancelled(ids[3]),
            store.placed(ids[3], &[("A", 1)]),
            store.placed(ids[0], &[("A", 3)]),
        ])
        .await;
    let outcomes: Vec<_> = answers.iter().map(|ack| ack.outcome).collect();
    assert_eq!(outcomes, [Success, Rejected, Success, Success, Success, Rejected, Success]);
    assert_eq!(told(&answers[3]).2, json!({"epoch": 1, "versions": {"A": 4}}));
    assert_eq!(told(&answers[6]).1, "duplicate");
    assert_eq!(store.stock("A").await, (2, 4));
    let versions: Vec<i64> = store.shop.events().await.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 3, 4], "ids grow with versions");
    let states = [State::Returned, State::Refused, State::Deducted, State::Cancelled];
    for (id, state) in ids.into_iter().zip(states) {
        assert_eq!(store.record(id).await.unwrap().0.state, state);
    }
}

async fn a_batch_may_be_large(store: &Store) {
    store.shop.stock("A", 2_000).await;
    store.shop.stock("B", 999).await;
    let ids: Vec<_> = (0..1_500).map(|_| store.id()).collect();
    let commands: Vec<_> = ids.iter().map(|id| store.placed(*id, &[("A", 1), ("B", 1)])).collect();
    let answers = store.arrive(commands).await;
    assert_eq!(answers.iter().filter(|ack| ack.outcome == Success).count(), 999);
    assert_eq!((store.stock("A").await, store.stock("B").await), ((1_001, 1_000), (0, 1_000)));
    let cancels: Vec<_> = ids.iter().map(|id| store.cancelled(*id)).collect();
    store.arrive(cancels).await;
    assert_eq!((store.stock("A").await, store.stock("B").await), ((2_000, 1_999), (999, 1_999)));
}

/// Orders that take the same products at once, in several consumers, beside adjustments.
async fn batches_at_once_take_what_there_is(store: &Store) {
    store.shop.stock("A", 20).await;
    store.shop.stock("B", 20).await;
    let batch = |lines: [(&str, i64); 2]| {
        (0..10).map(|_| store.placed(store.id(), &lines)).collect::<Vec<_>>()
    };
    let (one, two, three, _) = tokio::join!(
        store.arrive(batch([("A", 1), ("B", 1)])),
        store.arrive(batch([("B", 1), ("A", 1)])),
        store.arrive(batch([("A", 1), ("B", 1)])),
        store.shop.adjust("A", &[], crate::inventory::tests::shop::delta(5)),
    );
    let taken = [one, two, three].iter().flatten().filter(|ack| ack.outcome == Success).count();
    assert_eq!(taken, 20);
    assert_eq!((store.stock("A").await.0, store.stock("B").await.0), (5, 0));
}

on_both_databases![
    commands_are_taken_in_the_order_of_arrival,
    a_batch_may_be_large,
    batches_at_once_take_what_there_is,
];
