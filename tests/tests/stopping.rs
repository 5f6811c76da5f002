//! SIGTERM in the middle of a load: an orderly end in bounded time, and nothing that was answered is lost.

use stockloop_tests::poll::eventually;

use crate::stage::load::Load;
use crate::stage::random::Random;
use crate::stage::{PATIENCE, Stage};

const CHANGES: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn services_stop_in_order_under_load() {
    let Some(mut stage) = Stage::real("stopping").await else { return };
    let mut random = Random::new();
    let base = stage.product.base.clone();
    let mut load = Load::start(&mut random, &stage.product, &[base], 40, CHANGES).await;
    load.reached(CHANGES / 4).await;
    stage.product.stop().await;
    stage.product.start();
    load.reached(CHANGES / 2).await;
    stage.order.stop().await;
    stage.order.start();
    load.reached(CHANGES * 3 / 4).await;
    stage.product.stop().await;
    stage.order.stop().await;
    stage.product.start();
    stage.order.start();
    load.finished().await;
    stage.settled().await;
    stage.assert_equal_at_rest().await;
    stage.assert_nothing_gave_up().await;
    load.assert_each_change_counted_once(&stage.product).await;
    assert_few_came_twice(&stage).await;
    assert_offsets_stay(stage).await;
}

/// What was done before a stop was committed: only what was under way at a stop may come again.
async fn assert_few_came_twice(stage: &Stage) {
    let twice = "SELECT count(*) AS n FROM outbox_settled WHERE detail = 'duplicate'";
    let twice = stage.product.count(twice).await;
    let sent = stage.topics.events_sent();
    let events = stage.product.count("SELECT count(*) AS n FROM outbox_event").await;
    println!("{events} events, {sent} messages, {twice} answered as duplicates");
    assert!(twice <= events / 20, "{twice} of {events} were applied twice");
    assert!(sent <= events + events / 20, "{events} events took {sent} messages");
}

/// After an orderly stop nothing is left to be read again.
async fn assert_offsets_stay(mut stage: Stage) {
    stage.product.stop().await;
    stage.order.stop().await;
    let (topics, order) = (&stage.topics, stage.topics.order().to_owned());
    let acks = format!("{}.acks", stage.topics.product());
    eventually("offsets at the ends of the topics", PATIENCE, async || {
        let behind =
            (topics.uncommitted(&order, topics.events()), topics.uncommitted(&acks, topics.acks()));
        if behind == (0, 0) { Ok(()) } else { Err(behind) }
    })
    .await;
}
