//! kill -9 in the middle of a load, again and again: nothing is lost, and nothing is done twice.

use stockloop_tests::poll::eventually;

use crate::stage::load::Load;
use crate::stage::random::Random;
use crate::stage::{PATIENCE, Stage};

const CHANGES: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn product_service_is_killed_under_load() {
    killed_under_load(
        "killed_product",
        |stage| stage.product.kill9(),
        |stage| stage.product.start(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_service_is_killed_under_load() {
    killed_under_load("killed_order", |stage| stage.order.kill9(), |stage| stage.order.start())
        .await;
}

async fn killed_under_load(name: &str, kill: impl Fn(&mut Stage), start: impl Fn(&mut Stage)) {
    let Some(mut stage) = Stage::real(name).await else { return };
    let mut random = Random::new();
    let base = stage.product.base.clone();
    let mut load = Load::start(&mut random, &stage.product, &[base], 40, CHANGES).await;
    for moment in moments(&mut random, 4) {
        load.reached(moment).await;
        kill(&mut stage);
        start(&mut stage);
    }
    load.finished().await;
    stage.settled().await;
    stage.assert_equal_at_rest().await;
    stage.assert_nothing_gave_up().await;
    load.assert_each_change_counted_once(&stage.product).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_takes_over_from_a_killed_one() {
    let Some(mut stage) = Stage::real("two_relays").await else { return };
    let mut random = Random::new();
    let mut second = stage.second_product();
    let bases = [stage.product.base.clone(), second.base.clone()];
    let mut load = Load::start(&mut random, &stage.product, &bases, 40, CHANGES).await;
    eventually("two relays that share the shards", PATIENCE, async || {
        let owners =
            stage.product.count("SELECT count(DISTINCT owner) AS n FROM relay_lease").await;
        if owners == 2 { Ok(()) } else { Err(owners) }
    })
    .await;
    for moment in moments(&mut random, 2) {
        load.reached(moment).await;
        stage.product.kill9();
        // The first one comes back only when the second has taken all over.
        eventually("one relay for all shards", PATIENCE, async || {
            let all =
                "SELECT count(*) AS n FROM relay_lease GROUP BY owner ORDER BY n DESC LIMIT 1";
            let shards = stage.product.count(all).await;
            if shards == 64 { Ok(()) } else { Err(shards) }
        })
        .await;
        stage.product.start();
    }
    load.finished().await;
    stage.settled().await;
    stage.assert_equal_at_rest().await;
    stage.assert_nothing_gave_up().await;
    load.assert_each_change_counted_once(&stage.product).await;
    second.stop().await;
    stage.stop().await;
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
