//! Clients that change products, place orders, cancel them and read, as careful ones do: each write has an
//! `Idempotency-Key`, and what got no answer is asked again, of the next process, until there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{self, Duration};

use anyhow::{Context, Result};
use hyper::Method;
use rand::distr::{Alphanumeric, SampleString};
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

/// Of these, what those of a flood begin with; five digits follow, or more.
pub(super) const FLOOD: &str = "PUT-FLOOD-";

/// Characters that a description has behind its first word, at the most: a product's has no more than 1,000 in all.
const WORDY: usize = 900;

/// Bytes of a flood's products in one request, at the most.
const FLOOD_BATCH: usize = 800_000;

/// How long a flood may take until it is answered, and for each product more.
const FLOOD_DEADLINE: Duration = Duration::from_secs(120);
const FLOOD_PACE: Duration = Duration::from_millis(3);

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

/// Whether the databases have come back as they were before. What clients saw of them until then counts no more; and until all
/// is mended, the copy may show what its owner does not have.
#[derive(Debug, Clone, Default)]
pub(super) struct Setbacks(Arc<AtomicU64>);

impl Setbacks {
    /// They are about to come back so.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// All is mended.
    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins and ends so far: an odd number means that nothing is mended yet.
    fn so_far(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What clients have to know before they begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Habits {
    /// How many there are.
    pub(super) clients: u16,
    /// Where they begin.
    pub(super) seed: u64,
    /// Whether they remove their own products, too, and order those of others, which may be gone by then.
    pub(super) remove: bool,
    /// Whether they describe their own products at length.
    pub(super) is_wordy: bool,
    pub(super) setbacks: Setbacks,
}

/// A load under way.
pub(super) struct Load {
    clients: JoinSet<Ledger>,
    stage: Arc<AtomicU8>,
}

impl Load {
    /// Lets clients begin.
    pub(super) fn start(runtime: &Runtime, addresses: &Addresses, habits: &Habits) -> Self {
        let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
        let mut all = JoinSet::new();
        for number in 0..habits.clients {
            let shopper = Shopper::new(number, addresses, habits, Arc::clone(&stage));
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

/// Puts so many new products in, as fast as they are taken, whose descriptions go on with `padding`; returns what there is to
/// know of them.
pub(super) fn flood(
    runtime: &Runtime,
    addresses: &Addresses,
    many: u32,
    padding: &str,
) -> Result<Ledger> {
    let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
    let mut shopper = Shopper::new(FLOOD_CLIENT, addresses, &Habits::default(), stage);
    let batch = u32::try_from(FLOOD_BATCH / (160 + padding.len()))?.clamp(1, 500);
    let putting = async {
        let mut first = 0;
        while first < many {
            let next = many.min(first + batch);
            shopper.put_many(first..next, padding).await;
            first = next;
        }
    };
    let deadline = FLOOD_DEADLINE + FLOOD_PACE * many;
    let put = runtime.block_on(async { timeout(deadline, putting).await });
    put.context("the flood is not answered")?;
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
    /// The greatest version of each product that it was shown by each service, since so many begins and ends of setbacks.
    seen: BTreeMap<(Side, String), i64>,
    seen_since: u64,
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
    fn new(number: u16, addresses: &Addresses, habits: &Habits, stage: Arc<AtomicU8>) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(habits.seed.wrapping_add(1 + u64::from(number))),
            made: 0,
            next: usize::from(number),
            addresses: addresses.clone(),
            client: Client::default(),
            ledger: Ledger::default(),
            seen: BTreeMap::new(),
            seen_since: 0,
            put: BTreeMap::new(),
            removed: BTreeSet::new(),
            orders: Vec::new(),
            habits: habits.clone(),
            stage,
        }
    }

    async fn run(mut self) -> Ledger {
        while self.is_before(Stage::Closing) {
            match self.random.random_range(0..100) {
                0..40 => self.adjust().await,
                40..50 => self.adjust_many().await,
                50..54 if self.habits.remove => self.remove().await,
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
        let Some(address) = self.next_address(side) else { return };
        let setbacks = self.habits.setbacks.so_far();
        let reply = self.client.ask(&address, &asked).await;
        self.complain_of_a_flaw(&asked, &reply);
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
        let is_of_now = self.forget_before(setbacks);
        is_of_now && !may_be_gone && self.seen.contains_key(&(side, sku.to_owned()))
    }

    /// Forgets what it saw before the last setback; whether what was asked for after so many counts.
    fn forget_before(&mut self, setbacks: u64) -> bool {
        let so_far = self.habits.setbacks.so_far();
        if self.seen_since < so_far {
            self.seen_since = so_far;
            self.seen.clear();
        }
        setbacks == so_far && so_far.is_multiple_of(2)
    }

    fn see(&mut self, side: Side, sku: &str, body: &Value, setbacks: u64) {
        if !self.forget_before(setbacks) {
            return;
        }
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
            self.ledger.note(ticket, told, time::Instant::now());
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

    /// A product that some client has for itself, whether it is there or not.
    fn any_of_others(&mut self) -> String {
        let client = self.random.random_range(0..self.habits.clients.max(1));
        format!("{PUT}{client:03}-{}", self.random.random_range(0..OWN))
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
