//! Instances of product-service that no timer helps: one sends by itself what failed and is due, and two on one database tell
//! each other what they committed.

use engine::outbox::{SHARDS, shard_of};
use stockloop_tests::poll::eventually;

use crate::system::{DEADLINE, MAX_ATTEMPTS, TestService, TestSystem, relays_read_the_log};

/// No timer helps, and a partition soon needs the room that earlier events gave back.
const NO_HELP: [(&str, &str); 3] = [
    ("STOCKLOOP__OUTBOX__SWEEP_CRON", "0 0 0 1 1 *"),
    ("STOCKLOOP__OUTBOX__WATCH_CRON", "0 0 0 1 1 *"),
    ("STOCKLOOP__OUTBOX__IN_FLIGHT_EVENTS", "2"),
];

/// Products that are changed at each instance.
const PRODUCTS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_commits_the_other_one_sends() {
    if relays_read_the_log() {
        return println!("one instance reads the log and sends everything");
    }
    let Some(mut system) = TestSystem::real("two_instances").await else { return };
    system.product.restart_with(&NO_HELP).await;
    let mut second = system.second_product();
    wait_until_they_listen(&system.product).await;
    // The first one had all shards and gave the upper half back.
    let (lower, upper): (Vec<String>, Vec<String>) = (0..)
        .map(|n| format!("SKU-{n:03}"))
        .take(4 * PRODUCTS)
        .partition(|sku| shard_of(sku) < SHARDS / 2);
    for (instance, skus) in [(&system.product, &upper), (&second, &lower)] {
        for sku in skus.iter().take(PRODUCTS) {
            instance.put_product(sku, 1).await;
            system.wait_until_settled().await;
        }
    }
    system.assert_equal_at_rest().await;
    system.assert_no_attempt_was_lost().await;
    second.stop().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_sent_again_when_it_is_due() {
    let Some(mut system) = TestSystem::real("due_again").await else { return };
    system.product.restart_with(&NO_HELP).await;
    system.product.put_product("TEA", 12).await;
    system.wait_until_settled().await;
    system.order.quarantine("TEA", "the shelf is being counted").await;
    system.product.adjust("TEA", -2).await;
    let event = system.product.wait_for_exhausted(1).await.remove(0);
    assert_eq!(event["attempt"], MAX_ATTEMPTS);
    system.stop().await;
}

/// Waits until each has its half of the shards and a connection that listens.
async fn wait_until_they_listen(product: &TestService) {
    eventually("two instances that know each other", DEADLINE, async || {
        let halves =
            product.count("SELECT count(DISTINCT (owner, shard / 32)) AS n FROM relay_lease").await;
        let owners = product.count("SELECT count(DISTINCT owner) AS n FROM relay_lease").await;
        let listening = "SELECT count(*) AS n FROM pg_stat_activity \
            WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        let listening = product.count(listening).await;
        if (owners, halves, listening) == (2, 2, 2) {
            Ok(())
        } else {
            Err((owners, halves, listening))
        }
    })
    .await;
}
