//! A careful client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::products::{ADJUSTED, ORDERED, OWN, adjusted, is_scarce, ordered, own};
use super::seen::Seen;
use super::{Addresses, Habits, Stage};
use crate::chaos::client::{Asked, Client, Reply};
use crate::chaos::ledger::{Ledger, Ticket, Told};
use crate::check::Side;

/// Characters that a description has behind its first word, at the most: a product's has no more than 1,000 in all.
const WORDY: usize = 900;

/// Between a try that failed and the next one.
const RETRY: Duration = Duration::from_millis(50);

/// The longest pause between a client's requests.
const PACE_MS: u64 = 30;

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
pub(super) struct Shopper {
    number: u16,
    random: StdRng,
    /// Writes so far.
    made: u64,
    /// Which process is asked next.
    next: usize,
    addresses: Addresses,
    client: Client,
    pub(super) ledger: Ledger,
    seen: Seen,
    /// Of its own products that it put in last and that are there: the key of that.
    put: BTreeMap<String, String>,
    /// Own products that it ever removed: the other service may show what was before, or not.
    removed: BTreeSet<String>,
    /// Orders that it may still cancel: their ids, and whom they are for.
    orders: Vec<(String, String)>,
    habits: Habits,
    stage: Arc<AtomicU8>,
}

impl Shopper {
    pub(super) fn new(
        number: u16,
        addresses: &Addresses,
        habits: &Habits,
        stage: Arc<AtomicU8>,
    ) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(habits.seed.wrapping_add(1 + u64::from(number))),
            made: 0,
            next: usize::from(number),
            addresses: addresses.clone(),
            client: Client::default(),
            ledger: Ledger::default(),
            seen: Seen::new(habits.setbacks.clone()),
            put: BTreeMap::new(),
            removed: BTreeSet::new(),
            orders: Vec::new(),
            habits: habits.clone(),
            stage,
        }
    }

    pub(super) async fn run(mut self) -> Ledger {
        while self.is_before(Stage::Closing) {
            let busy = self.habits.rest.over().await;
            match self.random.random_range(0..100) {
                0..40 => self.adjust().await,
                40..50 => self.adjust_many().await,
                50..54 if self.habits.remove => self.remove().await,
                50..62 => self.replace().await,
                62..78 => self.order().await,
                78..88 => self.cancel().await,
                _ => self.look().await,
            }
            drop(busy);
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
            "description": self.description(&key),
            "quantity": self.random.random_range(0..1_000),
            "unit_price_minor": 255,
        });
        let ticket = self.ledger.ask(key.clone(), 1);
        let path = format!("/api/v1/inventory/{sku}");
        let asked = Asked { method: Method::PUT, path, body, key: Some(key.clone()) };
        let setbacks = self.habits.setbacks.so_far();
        if let Heard::Done(body) = self.settle(Side::Product, &asked, ticket, |_| 1).await {
            self.see(Side::Product, &sku, &body, setbacks);
            self.put.insert(sku, key);
        }
    }

    /// What follows the first word tells nothing, and can't be compressed.
    fn description(&mut self, key: &str) -> String {
        if !self.habits.is_wordy {
            return key.to_owned();
        }
        let length = self.random.random_range(0..=WORDY);
        format!("{key} {}", Alphanumeric.sample_string(&mut self.random, length))
    }

    /// Removes a product that nobody else changes; one that is there.
    async fn remove(&mut self) {
        let there = self.put.len();
        let drawn = (there > 0).then(|| self.random.random_range(0..there));
        let one = drawn.and_then(|drawn| self.put.iter().nth(drawn));
        let Some((sku, put)) = one.map(|(sku, put)| (sku.clone(), put.clone())) else {
            return self.replace().await;
        };
        // It says nothing itself, so it is known by what it removes.
        let ticket = self.ledger.ask(removed(&put), 1);
        let (path, key) = (format!("/api/v1/inventory/{sku}"), self.key());
        let asked = Asked { method: Method::DELETE, path, body: Value::Null, key: Some(key) };
        // Also before it is known: from now on it may be gone.
        self.removed.insert(sku.clone());
        if let Heard::Done(_) = self.settle(Side::Product, &asked, ticket, |_| 1).await {
            self.put.remove(&sku);
        }
    }

    async fn order(&mut self) {
        let key = self.key();
        let number = self.random.random_range(0..ORDERED);
        let may_be_gone = self.habits.remove && self.random.random();
        let sku = if may_be_gone { self.any_of_others() } else { ordered(number) };
        let quantity = self.random.random_range(1..=3);
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
            Heard::Refused(body) if !may_be_gone && !is_scarce(number) => {
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
        let setbacks = self.habits.setbacks.so_far();
        let Some(reply) = self.ask(side, &asked).await else { return };
        match reply {
            Reply::Whole { status: 200, body } => self.see(side, &sku, &body, setbacks),
            Reply::Whole { status: 404, .. } if self.has_to_have(side, &sku, setbacks) => {
                self.ledger.complain(format!("{side} showed {sku}, and then did not have it"));
            }
            _ => {}
        }
    }

    /// Whether a service that was asked after so many setbacks has to have a product.
    fn has_to_have(&mut self, side: Side, sku: &str, setbacks: u64) -> bool {
        let may_be_gone = match side {
            Side::Product => self.removed.contains(sku) && !self.put.contains_key(sku),
            Side::Order => self.removed.contains(sku),
        };
        !may_be_gone && self.seen.has(side, sku, setbacks)
    }

    fn see(&mut self, side: Side, sku: &str, body: &Value, setbacks: u64) {
        let Some(version) = body["version"].as_i64() else { return };
        if let Some(greater) = self.seen.take(side, sku, version, setbacks) {
            let words = format!("{side} showed version {version} of {sku} after {greater}");
            self.ledger.complain(words);
        }
    }

    /// The same as [`Self::settle`] of a batch of product-service's, of which no line can be refused.
    pub(super) async fn settle_lines(&mut self, asked: &Asked, ticket: Ticket, lines: u64) {
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
            let Some(reply) = self.ask(side, asked).await else { return Heard::Nothing };
            let (told, body) = match reply {
                Reply::NotSent => (Told::NotDone, Value::Null),
                Reply::Lost => (Told::Unknown, Value::Null),
                Reply::Whole { status, body } => {
                    let problem = body["type"].as_str().unwrap_or_default();
                    (Told::by(status, problem, effects(&body)), body)
                }
            };
            self.ledger.note(ticket, told, Instant::now());
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

    /// Asks the next process, once; nothing where there is none.
    async fn ask(&mut self, side: Side, asked: &Asked) -> Option<Reply> {
        let address = self.next_address(side)?;
        let reply = self.client.ask(&address, asked).await;
        // What a service answers that has a flaw.
        if let Reply::Whole { status: 500, body } = &reply {
            self.complain_of(asked, "was answered 500", body);
        }
        Some(reply)
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
    pub(super) fn key(&mut self) -> String {
        self.made += 1;
        format!("client-{}-{}", self.number, self.made)
    }

    fn any_adjusted(&mut self) -> String {
        adjusted(self.random.random_range(0..ADJUSTED))
    }

    fn any_own(&mut self) -> String {
        own(self.number, self.random.random_range(0..OWN))
    }

    /// A product that some client has for itself, whether it is there or not.
    fn any_of_others(&mut self) -> String {
        let client = self.random.random_range(0..self.habits.clients.max(1));
        own(client, self.random.random_range(0..OWN))
    }

    /// One to nine pieces, coming or going.
    fn delta(&mut self) -> i64 {
        let pieces = self.random.random_range(1..=9);
        if self.random.random() { pieces } else { -pieces }
    }
}

/// What stands for the removal of what `put` has put in.
fn removed(put: &str) -> String {
    format!("{put} removed")
}

/// What stands for the cancellation of the order for `customer`.
fn cancelled(customer: &str) -> String {
    format!("{customer} cancelled")
}
