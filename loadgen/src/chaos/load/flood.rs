//! Many new products, as fast as they are taken.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::products::FLOOD;
use super::shopper::Shopper;
use super::{Addresses, Habits, Stage};
use crate::chaos::client::Asked;
use crate::chaos::ledger::Ledger;

/// Bytes of products in one request, and of what each has beside its padding, at the most.
const BATCH: usize = 800_000;
const PRODUCT: usize = 160;

/// How long all may take until they are answered, and for each product more.
const DEADLINE: Duration = Duration::from_secs(120);
const PACE: Duration = Duration::from_millis(3);

/// As many as a client can be: no other one has this number.
const CLIENT: u16 = u16::MAX;

/// Puts so many new products in, as fast as they are taken, whose descriptions go on with `padding`; returns what there is to
/// know of them.
pub(in crate::chaos) fn flood(
    runtime: &Runtime,
    addresses: &Addresses,
    many: u32,
    padding: &str,
) -> Result<Ledger> {
    let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
    let mut shopper = Shopper::new(CLIENT, addresses, &Habits::default(), stage);
    let batch = u32::try_from(BATCH / (PRODUCT + padding.len()))?.clamp(1, 500);
    let putting = async {
        let mut first = 0;
        while first < many {
            let next = many.min(first + batch);
            shopper.put_many(first..next, padding).await;
            first = next;
        }
    };
    let deadline = DEADLINE + PACE * many;
    let put = runtime.block_on(async { timeout(deadline, putting).await });
    put.context("the flood is not answered")?;
    Ok(shopper.ledger)
}

impl Shopper {
    /// Puts these products of a flood in.
    async fn put_many(&mut self, numbers: Range<u32>, padding: &str) {
        let (key, count) = (self.key(), u64::from(numbers.end - numbers.start));
        let product = |number: u32| {
            json!({
                "sku": format!("{FLOOD}{number:05}"),
                "description": format!("{key}{padding}"),
                "quantity": 1,
                "unit_price_minor": 255,
            })
        };
        let lines: Vec<Value> = numbers.map(product).collect();
        let body = json!({ "mode": "replace", "lines": lines });
        let ticket = self.ledger.ask(key.clone(), count);
        let path = "/api/v1/inventory".to_owned();
        let asked = Asked { method: Method::POST, path, body, key: Some(key) };
        self.settle_lines(&asked, ticket, count).await;
    }
}
