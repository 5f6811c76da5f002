//! Random scripts of customers, operators and accidents, held against a plain model.

use proptest::prelude::*;

use super::world::{SHELVES, World};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Deed {
    Place(Vec<(usize, i64)>),
    Cancel(usize),
    Adjust(usize, i64),
    Send,
    Deliver { wire: usize, picks: Vec<usize>, twice: bool },
    Lose { wire: usize, pick: usize },
    Fail(usize),
    Attend { gives_up: bool },
    Restart,
    Forget,
}

fn deeds() -> impl Strategy<Value = Deed> {
    let shelf = 0..SHELVES.len();
    let pick = 0..1_000_usize;
    prop_oneof![
        4 => prop::collection::vec((shelf.clone(), 1..4_i64), 1..4).prop_map(Deed::Place),
        2 => pick.clone().prop_map(Deed::Cancel),
        2 => (shelf, -3..5_i64).prop_map(|(shelf, delta)| Deed::Adjust(shelf, delta)),
        4 => Just(Deed::Send),
        10 => (0..4_usize, prop::collection::vec(pick.clone(), 1..5), any::<bool>())
            .prop_map(|(wire, picks, twice)| Deed::Deliver { wire, picks, twice }),
        2 => (0..4_usize, pick.clone()).prop_map(|(wire, pick)| Deed::Lose { wire, pick }),
        1 => pick.prop_map(Deed::Fail),
        1 => any::<bool>().prop_map(|gives_up| Deed::Attend { gives_up }),
        1 => Just(Deed::Restart),
        1 => Just(Deed::Forget),
    ]
}

async fn play(script: Vec<Deed>) {
    let mut world = World::new().await;
    let sku = |shelf: usize| SHELVES[shelf].0;
    for deed in script {
        world.tick();
        match deed {
            Deed::Place(lines) => {
                let lines: Vec<_> = lines.into_iter().map(|(shelf, n)| (sku(shelf), n)).collect();
                world.place(&lines).await;
            }
            Deed::Cancel(pick) => world.cancel(pick).await,
            Deed::Adjust(_, 0) => {}
            Deed::Adjust(shelf, delta) => world.adjust(sku(shelf), delta).await,
            Deed::Send => world.send().await,
            Deed::Deliver { wire, picks, twice } => world.deliver(wire, &picks, twice).await,
            Deed::Lose { wire, pick } => world.lose(wire, pick),
            Deed::Fail(pick) => world.fail(pick).await,
            Deed::Attend { gives_up } => world.attend(gives_up).await,
            Deed::Restart => world.restart(),
            Deed::Forget => world.forget().await,
        }
        world.check_always().await;
    }
    world.drain().await;
    world.check_in_the_end().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Whatever comes in between: no stock appears or vanishes, no order is lost, nothing is promised twice.
    #[test]
    fn every_interleaving_keeps_the_stock(script in prop::collection::vec(deeds(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(script));
    }
}
