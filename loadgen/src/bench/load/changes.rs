//! What clients ask for: random changes of products that are all alike.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// What each product is, in words.
pub(in crate::bench) const DESCRIPTION: &str = "WHITE HANGING HEART T-LIGHT HOLDER";
/// The price of a piece, in minor units.
pub(in crate::bench) const PRICE_MINOR: i64 = 255;
/// Pieces of each product at first; they may go below zero, so that no change is refused.
pub(in crate::bench) const OPENING: i64 = 1_000_000;
/// Why stock comes or goes.
pub(in crate::bench) const REASON: &str = "sale";
/// What each change belongs to.
pub(in crate::bench) const REFERENCE: &str = "536365";

/// The SKU of the product of this number, which begins at 0.
pub(in crate::bench) fn sku(product: u32) -> String {
    format!("BENCH-{product:07}")
}

/// The product of this number as a batch has it.
pub(super) fn product(number: u32) -> Value {
    json!({
        "sku": sku(number),
        "description": DESCRIPTION,
        "quantity": OPENING,
        "unit_price_minor": PRICE_MINOR,
        "allow_backorder": true,
    })
}

/// What all clients of a measurement do.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Load {
    pub(in crate::bench) clients: u16,
    /// Products that are changed.
    pub(in crate::bench) products: u32,
    /// How long it goes on.
    pub(in crate::bench) time: Duration,
    pub(in crate::bench) seed: u64,
}

impl Load {
    /// The changes of each client, the same ones for the same seed.
    pub(in crate::bench) fn by_client(&self) -> impl Iterator<Item = Changes> {
        let Self { products, seed, .. } = *self;
        (0..self.clients)
            .map(move |client| Changes::of(products, seed.wrapping_add(u64::from(client))))
    }
}

/// One change of one product's stock.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Change {
    /// Its number.
    pub(in crate::bench) product: u32,
    /// Pieces that come or go.
    pub(in crate::bench) delta: i64,
}

/// Changes of one client, without end.
pub(in crate::bench) struct Changes {
    random: StdRng,
    products: u32,
}

impl Changes {
    /// Of so many products, the same ones for the same seed.
    pub(in crate::bench) fn of(products: u32, seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), products }
    }

    /// The next one: one to nine pieces of any product.
    pub(in crate::bench) fn draw(&mut self) -> Change {
        let product = self.random.random_range(0..self.products);
        let pieces = self.random.random_range(1..=9);
        let delta = if self.random.random() { pieces } else { -pieces };
        Change { product, delta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_which_changes_come_and_each_client_has_its_own() {
        let load = Load { clients: 2, products: 5, time: Duration::ZERO, seed: 7 };
        let draw = |mut changes: Changes| {
            let change = |_| changes.draw();
            (0..100).map(change).map(|change| (change.product, change.delta)).collect::<Vec<_>>()
        };
        let drawn: Vec<_> = load.by_client().map(draw).collect();
        assert_eq!(drawn, load.by_client().map(draw).collect::<Vec<_>>());
        assert_ne!(drawn[0], drawn[1]);
        assert!(drawn.iter().flatten().all(|(product, delta)| *product < 5 && *delta != 0));
    }
}
