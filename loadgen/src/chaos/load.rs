//! Clients that change products, place orders, cancel them and read, as careful ones do: each write has an
//! `Idempotency-Key`, and what got no answer is asked again, of the next process, until there is one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::{Asked, Client, Reply};
use super::ledger::{Ledger, Ticket, Told};
use crate::check::Side;

/// Products that are adjusted, and may go below zero.
pub(super) const ADJUSTED: u32 = 40;
/// Products that are ordered; of the last few there is little.
const ORDERED: u32 = 20;
const SCARCE: u32 = 4;
/// Products that each client has for itself, to replace them.
const OWN: u64 = 4;

const OPENING: i64 = 1_000_000;
const LITTLE: i64 = 30;

/// What the descriptions of products at first say; what clients put in says something else.
pub(super) const OPENING_DESCRIPTION: &str = "as it was at first";

/// What the SKUs begin with of products that are replaced.
pub(super) const PUT: &str = "PUT-";

/// Of these, what those of a flood begin with; five digits follow.
pub(super) const FLOOD: &str = "PUT-FLOOD-";

/// Products of a flood in one request.
const FLOOD_BATCH: u32 = 500;

/// How long a flood may take until it is answered.
const FLOOD_DEADLINE: Duration = Duration::from_secs(120);

/// As many as a client can be: no other one has this number.
const FLOOD_CLIENT: u16 = u16::MAX;

/// Between a try that failed and the next one.
const RETRY: Duration = Duration::from_millis(50);

/// The longest pause between a client's requests.
const PACE_MS: u64 = 30;

/// How long clients go on with what is not answered, once all is well again.
const CLOSING: Duration = Duration::from_secs(60);

/// An adjusted product.
pub(super) fn adjusted(number: u32) -> String {
    format!("ADJ-{number:03}")
}

fn ordered(number: u32) -> String {
    format!("ORD-{number:03}")
}

/// Whether there is so little of an ordered product that orders are refused.
const fn is_scarce(number: u32) -> bool {
    number >= ORDERED - SCARCE
}

/// The products before the load, as a batch has them.
pub(super) fn products() -> Vec<Value> {
    let product = |sku: String, quantity: i64, allow_backorder: bool| {
        json!({
            "sku": sku,
            "description": OPENING_DESCRIPTION,
            "quantity": quantity,
            "unit_price_minor": 255,
            "allow_backorder": allow_backorder,
        })
    };
    let stock = |n| if is_scarce(n) { LITTLE } else { OPENING };
    let all_adjusted = (0..ADJUSTED).map(|n| product(adjusted(n), OPENING, true));
    let all_ordered = (0..ORDERED).map(|n| product(ordered(n), stock(n), false));
    all_adjusted.chain(all_ordered).collect()
}

/// Where the processes of each service listen, as `host:port`, whether they run or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    pub(super) product: Vec<String>,
    pub(super) order: Vec<String>,
}

impl Addresses {
    pub(super) fn of(&self, side: Side) -> &[String] {
        match side {
            Side::Product => &self.product,
            Side::Order => &self.order,
        }
    }
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// They ask for more and more.
    Asking,
    /// They only finish what they have begun.
    Closing,
    /// They end.
    Ended,
}

/// A load under way.
pub(super) struct Load {
    clients: JoinSet<Ledger>,
    stage: Arc<AtomicU8>,
}

impl Load {
    /// Lets so many clients begin.
    pub(super) fn start(runtime: &Runtime, addresses: &Addresses, clients: u16, seed: u64) -> Self {
        let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
        let mut all = JoinSet::new();
        for number in 0..clients {
            let shopper = Shopper::new(number, addresses, seed, Arc::clone(&stage));
            all.spawn_on(shopper.run(), runtime.handle());
        }
        Self { clients: all, stage }
    }

    /// Lets the clients finish what they have begun, and returns what they know.
    pub(super) fn finish(mut self, runtime: &Runtime) -> Result<Ledger> {
        self.enter(Stage::Closing);
        let mut known = Ledger::default();
        runtime.block_on(async {
            let deadline = Instant::now() + CLOSING;
            loop {
                match timeout_at(deadline, self.clients.join_next()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(ended)) => known.take(ended?),
                    Err(_) => break,
                }
            }
            self.enter(Stage::Ended);
            while let Some(ended) = self.clients.join_next().await {
                known.take(ended?);
            }
            anyhow::Ok(())
        })?;
        Ok(known)
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }
}

/// Puts so many new products in, as fast as they are taken; returns what there is to know of them.
pub(super) fn flood(runtime: &Runtime, addresses: &Addresses, many: u32) -> Result<Ledger> {
    let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
    let mut shopper = Shopper::new(FLOOD_CLIENT, addresses, 0, stage);
    let putting = async {
        for first in (0..many).step_by(usize::try_from(FLOOD_BATCH)?) {
            shopper.put_many(first..many.min(first + FLOOD_BATCH)).await;
        }
        anyhow::Ok(())
    };
    let put = runtime.block_on(async { timeout(FLOOD_DEADLINE, putting).await });
    put.context("the flood is not answered")??;
    Ok(shopper.ledger)
}

/// What came of a write.
enum Heard {
    /// It is done; the body of the answer.
    Done(Value),
    /// The same where it is refused.
    Refused(Value),
    /// The client had to end before it knew.
    Nothing,
}

/// One client.
struct Shopper {
    number: u16,
    random: StdRng,
    /// Writes so far.
    made: u64,
    /// Which process is asked next.
    next: usize,
    addresses: Addresses,
    client: Client,
    ledger: Ledger,
    /// The greatest version of each product that it was shown by each service.
    seen: BTreeMap<(Side, String), i64>,
    /// Orders that it may still cancel: their ids, and whom they are for.
    orders: Vec<(String, String)>,
    stage: Arc<AtomicU8>,
}

impl Shopper {
    fn new(number: u16, addresses: &Addresses, seed: u64, stage: Arc<AtomicU8>) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(seed.wrapping_add(1 + u64::from(number))),
            made: 0,
            next: usize::from(number),
            addresses: addresses.clone(),
            client: Client::default(),
            ledger: Ledger::default(),
            seen: BTreeMap::new(),
            orders: Vec::new(),
            stage,
        }
    }

    async fn run(mut self) -> Ledger {
        while self.is_before(Stage::Closing) {
            match self.random.random_range(0..100) {
                0..40 => self.adjust().await,
                40..50 => self.adjust_many().await,
                50..62 => self.replace().await,
                62..78 => self.order().await,
                78..88 => self.cancel().await,
                _ => self.look().await,
            }
            let pause = self.random.random_range(0..=PACE_MS);
            sleep(Duration::from_millis(pause)).await;
        }
        self.ledger
    }

    async fn adjust(&mut self) {
        let (key, sku) = (self.key(), self.any_adjusted());
        let path = format!("/api/v1/inventory/{sku}/adjustments");
        let body = json!({ "delta": self.delta(), "reason": "trial", "reference": key });
        let ticket = self.ledger.ask(key.clone(), 1);
        let asked = Asked { method: Method::POST, path, body, key: Some(key) };
        self.settle(Side::Product, &asked, ticket, |_| 1).await;
    }

    async fn adjust_many(&mut self) {
        let (key, count) = (self.key(), self.random.random_range(2..=10_u64));
        let mut lines = Vec::new();
        for _ in 0..count {
            let (sku, delta) = (self.any_adjusted(), self.delta());
            lines.push(json!({ "sku": sku, "delta": delta, "reason": "trial", "reference": key }));
        }
        let ticket = self.ledger.ask(key.clone(), count);
        let path = "/api/v1/adjustments".to_owned();
        let body = json!({ "lines": lines });
        let asked = Asked { method: Method::POST, path, body, key: Some(key) };
        self.settle_lines(&asked, ticket, count).await;
    }

    /// Replaces a product that nobody else changes; then no older version may be shown.
    async fn replace(&mut self) {
        let (key, sku) = (self.key(), self.any_own());
        let body = json!({
            "description": key,
            "quantity": self.random.random_range(0..1_000),
            "unit_price_minor": 255,
        });
        let ticket = self.ledger.ask(key.clone(), 1);
        let path = format!("/api/v1/inventory/{sku}");
        let asked = Asked { method: Method::PUT, path, body, key: Some(key) };
        if let Heard::Done(body) = self.settle(Side::Product, &asked, ticket, |_| 1).await {
            self.see(Side::Product, &sku, &body);
        }
    }

    /// Puts these products of a flood in.
    async fn put_many(&mut self, numbers: Range<u32>) {
        let (key, count) = (self.key(), u64::from(numbers.end - numbers.start));
        let product = |number: u32| {
            json!({
                "sku": format!("{FLOOD}{number:05}"),
                "description": key,
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

    async fn order(&mut self) {
        let key = self.key();
        let number = self.random.random_range(0..ORDERED);
        let (sku, quantity) = (ordered(number), self.random.random_range(1..=3));
        let line = json!({ "sku": sku, "quantity": quantity });
        let body = json!({ "customer": key, "lines": [line] });
        let ticket = self.ledger.ask(key.clone(), 1);
        let path = "/api/v1/orders".to_owned();
        let asked = Asked { method: Method::POST, path, body, key: Some(key.clone()) };
        match self.settle(Side::Order, &asked, ticket, |_| 1).await {
            Heard::Done(body) => match body["id"].as_str() {
                Some(id) => self.orders.push((id.to_owned(), key)),
                None => self.complain_of(&asked, "has no id", &body),
            },
            Heard::Refused(body) if !is_scarce(number) => {
                self.complain_of(&asked, "was refused", &body);
            }
            Heard::Refused(_) | Heard::Nothing => {}
        }
    }

    /// Cancels one of its orders, each once at the most.
    async fn cancel(&mut self) {
        if self.orders.is_empty() {
            return self.order().await;
        }
        let drawn = self.random.random_range(0..self.orders.len());
        let (id, customer) = self.orders.swap_remove(drawn);
        let ticket = self.ledger.ask(cancelled(&customer), 1);
        let asked = Asked {
            method: Method::POST,
            path: format!("/api/v1/orders/{id}/cancel"),
            body: json!({ "reason": "changed their mind" }),
            key: Some(self.key()),
        };
        // One that was rejected meanwhile can't be cancelled.
        self.settle(Side::Order, &asked, ticket, |_| 1).await;
    }

    /// Reads a product from one of the services, whose versions may not go down.
    async fn look(&mut self) {
        let side = if self.random.random() { Side::Product } else { Side::Order };
        let sku = if self.random.random() { self.any_own() } else { self.any_adjusted() };
        let path = format!("/api/v1/inventory/{sku}");
        let asked = Asked { method: Method::GET, path, body: Value::Null, key: None };
        let Some(address) = self.next_address(side) else { return };
        let reply = self.client.ask(&address, &asked).await;
        self.complain_of_a_flaw(&asked, &reply);
        match reply {
            Reply::Whole { status: 200, body } => self.see(side, &sku, &body),
            Reply::Whole { status: 404, .. } if self.seen.contains_key(&(side, sku.clone())) => {
                self.ledger.complain(format!("{side} showed {sku}, and then did not have it"));
            }
            _ => {}
        }
    }

    fn see(&mut self, side: Side, sku: &str, body: &Value) {
        let Some(version) = body["version"].as_i64() else { return };
        let seen = self.seen.entry((side, sku.to_owned())).or_insert(version);
        if version < *seen {
            let words = format!("{side} showed version {version} of {sku} after {seen}");
            self.ledger.complain(words);
        } else {
            *seen = version;
        }
    }

    /// The same as [`Self::settle`] of a batch of product-service's, of which no line can be refused.
    async fn settle_lines(&mut self, asked: &Asked, ticket: Ticket, lines: u64) {
        let accepted = |body: &Value| body["accepted"].as_u64().unwrap_or(lines);
        if let Heard::Done(body) = self.settle(Side::Product, asked, ticket, accepted).await
            && body["refused"] != 0
        {
            self.complain_of(asked, "had lines that were refused", &body);
        }
    }

    /// Asks until the outcome is known, or the client has to end.
    async fn settle(
        &mut self,
        side: Side,
        asked: &Asked,
        ticket: Ticket,
        effects: impl Fn(&Value) -> u64,
    ) -> Heard {
        loop {
            let Some(address) = self.next_address(side) else { return Heard::Nothing };
            let reply = self.client.ask(&address, asked).await;
            self.complain_of_a_flaw(asked, &reply);
            let (told, body) = match reply {
                Reply::NotSent => (Told::NotDone, Value::Null),
                Reply::Lost => (Told::Unknown, Value::Null),
                Reply::Whole { status, body } => {
                    let problem = body["type"].as_str().unwrap_or_default();
                    (Told::by(status, problem, effects(&body)), body)
                }
            };
            self.ledger.note(ticket, told);
            match told {
                Told::Done(_) => return Heard::Done(body),
                Told::Refused => {
                    // Of products nothing can be refused: those that are adjusted are there, and may go below zero.
                    if side == Side::Product {
                        self.complain_of(asked, "was refused", &body);
                    }
                    return Heard::Refused(body);
                }
                Told::NotDone | Told::Unknown if !self.is_before(Stage::Ended) => {
                    return Heard::Nothing;
                }
                Told::NotDone | Told::Unknown => sleep(RETRY).await,
            }
        }
    }

    /// 500 is what a service answers that has a flaw.
    fn complain_of_a_flaw(&mut self, asked: &Asked, reply: &Reply) {
        if let Reply::Whole { status: 500, body } = reply {
            self.complain_of(asked, "was answered 500", body);
        }
    }

    fn complain_of(&mut self, Asked { method, path, .. }: &Asked, what: &str, body: &Value) {
        self.ledger.complain(format!("{method} {path} {what}: {body}"));
    }

    /// The processes in turn, so that one that hangs or is gone holds nothing up.
    fn next_address(&mut self, side: Side) -> Option<String> {
        let addresses = self.addresses.of(side);
        self.next = self.next.wrapping_add(1);
        addresses.get(self.next.checked_rem(addresses.len())?).cloned()
    }

    fn is_before(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::SeqCst) < stage as u8
    }

    /// A key that no other write of this run has.
    fn key(&mut self) -> String {
        self.made += 1;
        format!("client-{}-{}", self.number, self.made)
    }

    fn any_adjusted(&mut self) -> String {
        adjusted(self.random.random_range(0..ADJUSTED))
    }

    fn any_own(&mut self) -> String {
        format!("{PUT}{:03}-{}", self.number, self.random.random_range(0..OWN))
    }

    /// One to nine pieces, coming or going.
    fn delta(&mut self) -> i64 {
        let pieces = self.random.random_range(1..=9);
        if self.random.random() { pieces } else { -pieces }
    }
}

/// What stands for the cancellation of the order for `customer`.
fn cancelled(customer: &str) -> String {
    format!("{customer} cancelled")
}
