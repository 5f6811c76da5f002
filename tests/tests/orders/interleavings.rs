//! Random scripts of customers, operators and accidents, held against a plain model.

use proptest::prelude::*;

use super::simulation::{LoopSimulation, PRODUCTS};

/// One step of a script.
#[derive(Debug, Clone)]
enum Action {
    Place(Vec<(usize, i64)>),
    Cancel(usize),
    Adjust(usize, i64),
    Send,
    Deliver { link: usize, picks: Vec<usize>, twice: bool },
    Lose { link: usize, pick: usize },
    Fail(usize),
    HandleExhausted { give_up: bool },
    Restart,
    ClearInboxes,
}

fn actions() -> impl Strategy<Value = Action> {
    let product = 0..PRODUCTS.len();
    let pick = 0..1_000_usize;
    prop_oneof![
        4 => prop::collection::vec((product.clone(), 1..4_i64), 1..4).prop_map(Action::Place),
        2 => pick.clone().prop_map(Action::Cancel),
        2 => (product, -3..5_i64).prop_map(|(product, delta)| Action::Adjust(product, delta)),
        4 => Just(Action::Send),
        10 => (0..4_usize, prop::collection::vec(pick.clone(), 1..5), any::<bool>())
            .prop_map(|(link, picks, twice)| Action::Deliver { link, picks, twice }),
        2 => (0..4_usize, pick.clone()).prop_map(|(link, pick)| Action::Lose { link, pick }),
        1 => pick.prop_map(Action::Fail),
        1 => any::<bool>().prop_map(|give_up| Action::HandleExhausted { give_up }),
        1 => Just(Action::Restart),
        1 => Just(Action::ClearInboxes),
    ]
}

async fn play(script: Vec<Action>) {
    let mut simulation = LoopSimulation::new().await;
    let sku = |product: usize| PRODUCTS[product].0;
    for action in script {
        simulation.tick();
        match action {
            Action::Place(lines) => {
                let lines: Vec<_> =
                    lines.into_iter().map(|(product, n)| (sku(product), n)).collect();
                simulation.place(&lines).await;
            }
            Action::Cancel(pick) => simulation.cancel(pick).await,
            Action::Adjust(_, 0) => {}
            Action::Adjust(product, delta) => simulation.adjust(sku(product), delta).await,
            Action::Send => simulation.send().await,
            Action::Deliver { link, picks, twice } => {
                simulation.deliver(link, &picks, twice).await;
            }
            Action::Lose { link, pick } => simulation.lose(link, pick),
            Action::Fail(pick) => simulation.fail(pick).await,
            Action::HandleExhausted { give_up } => simulation.handle_exhausted(give_up).await,
            Action::Restart => simulation.restart(),
            Action::ClearInboxes => simulation.clear_inboxes().await,
        }
        simulation.check_invariants().await;
    }
    simulation.drain().await;
    simulation.check_final_state().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Whatever comes in between: no stock appears or vanishes, no order is lost, nothing is promised twice.
    #[test]
    fn every_interleaving_keeps_the_stock(script in prop::collection::vec(actions(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(script));
    }
}
