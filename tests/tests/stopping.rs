//! SIGTERM in the middle of a load: an orderly end in bounded time, and nothing that was answered is lost.

use stockloop_tests::poll::eventually;

use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, TestSystem};

const CHANGES: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn services_stop_in_order_under_load() {
    let Some(mut system) = TestSystem::real("stopping").await else { return };
    let mut random = Random::new();
    let base = system.product.base_url.clone();
    let mut load = Load::start(&mut random, &system.product, &[base], 40, CHANGES).await;
    load.reached(CHANGES / 4).await;
    system.product.stop().await;
    system.product.start();
    load.reached(CHANGES / 2).await;
    system.order.stop().await;
    system.order.start();
    load.reached(CHANGES * 3 / 4).await;
    system.product.stop().await;
    system.order.stop().await;
    system.product.start();
    system.order.start();
    load.assert_all_arrived(&system).await;
    assert_few_came_twice(&system).await;
    assert_offsets_stay(system).await;
}

/// What was done before a stop was committed: only what was under way at a stop may come again.
async fn assert_few_came_twice(system: &TestSystem) {
    let twice = "SELECT count(*) AS n FROM outbox_settled WHERE detail = 'duplicate'";
    let twice = system.product.count(twice).await;
    let sent = system.topics.events_sent();
    let events = system.product.count("SELECT count(*) AS n FROM outbox_event").await;
    println!("{events} events, {sent} messages, {twice} answered as duplicates");
    assert!(twice <= events / 20, "{twice} of {events} were applied twice");
    assert!(sent <= events + events / 20, "{events} events took {sent} messages");
}

/// After an orderly stop nothing is left to be read again.
async fn assert_offsets_stay(mut system: TestSystem) {
    system.product.stop().await;
    system.order.stop().await;
    let (topics, order) = (&system.topics, system.topics.order().to_owned());
    let acks = format!("{}.acks", system.topics.product());
    eventually("offsets at the ends of the topics", DEADLINE, async || {
        let behind =
            (topics.uncommitted(&order, topics.events()), topics.uncommitted(&acks, topics.acks()));
        if behind == (0, 0) { Ok(()) } else { Err(behind) }
    })
    .await;
}
