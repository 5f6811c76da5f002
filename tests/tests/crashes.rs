//! kill -9 in the middle of a load, again and again: nothing is lost, and nothing is done twice.

use stockloop_tests::poll::eventually;

use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, TestSystem, relays_read_the_log};

const CHANGES: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn product_service_is_killed_under_load() {
    killed_under_load(
        "killed_product",
        |system| system.product.kill9(),
        |system| system.product.start(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_service_is_killed_under_load() {
    killed_under_load("killed_order", |system| system.order.kill9(), |system| system.order.start())
        .await;
}

async fn killed_under_load(
    name: &str,
    kill: impl Fn(&mut TestSystem),
    start: impl Fn(&mut TestSystem),
) {
    let Some(mut system) = TestSystem::real(name).await else { return };
    let mut random = Random::new();
    let base = system.product.base_url.clone();
    let mut load = Load::start(&mut random, &system.product, &[base], 40, CHANGES).await;
    for moment in moments(&mut random, 4) {
        load.reached(moment).await;
        kill(&mut system);
        start(&mut system);
    }
    load.assert_all_arrived(&system).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_takes_over_from_a_killed_one() {
    let Some(mut system) = TestSystem::real("two_relays").await else { return };
    let mut random = Random::new();
    let mut second = system.second_product();
    let bases = [system.product.base_url.clone(), second.base_url.clone()];
    let mut load = Load::start(&mut random, &system.product, &bases, 40, CHANGES).await;
    let expected = if relays_read_the_log() { 1 } else { 2 };
    eventually("two relays that share the shards, or one that reads", DEADLINE, async || {
        let owners =
            system.product.count("SELECT count(DISTINCT owner) AS n FROM relay_lease").await;
        if owners == expected { Ok(()) } else { Err(owners) }
    })
    .await;
    for moment in moments(&mut random, 2) {
        load.reached(moment).await;
        system.product.kill9();
        // The first one comes back only when the second has taken all over.
        eventually("one relay for all shards", DEADLINE, async || {
            let all =
                "SELECT count(*) AS n FROM relay_lease GROUP BY owner ORDER BY n DESC LIMIT 1";
            let shards = system.product.count(all).await;
            if shards == 64 { Ok(()) } else { Err(shards) }
        })
        .await;
        system.product.start();
    }
    load.assert_all_arrived(&system).await;
    second.stop().await;
    system.stop().await;
}

/// When to strike, as numbers of changes done, in order.
fn moments(random: &mut Random, count: usize) -> Vec<usize> {
    let span = u64::try_from(CHANGES * 9 / 10).expect("few");
    let mut moments: Vec<usize> =
        (0..count).map(|_| usize::try_from(random.below(span)).expect("few")).collect();
    moments.sort_unstable();
    println!("killed after {moments:?} changes");
    moments
}
