//! Clients that change stock all the time and repeat what got no answer, and the model of what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use super::random::Random;
use super::service::Base;
use super::{PATIENCE, Service};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// Enough that no sequence of adjustments gets below zero.
const OPENING: i64 = 1_000_000;
const PAUSE: Duration = Duration::from_millis(50);

/// One adjustment of the plan.
#[derive(Debug, Clone)]
struct Change {
    sku: String,
    delta: i64,
    key: String,
}

/// What clients saw besides success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Statuses of answers that were no success.
    pub(crate) statuses: BTreeSet<u16>,
    /// Requests without any answer.
    pub(crate) broken: usize,
}

/// A load under way.
pub(crate) struct Load {
    plan: Arc<[Change]>,
    answered: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
    clients: JoinSet<()>,
}

impl Load {
    /// Puts `skus` products in and begins with `changes` adjustments of them, asked of `bases` in turn.
    pub(crate) async fn start(
        random: &mut Random,
        product: &Service,
        bases: &[Base],
        skus: u64,
        changes: usize,
    ) -> Self {
        for sku in 0..skus {
            product.put_product(&name(sku), OPENING).await;
        }
        let run = random.next();
        let plan: Arc<[Change]> = (0..changes).map(|n| Change::new(random, run, n, skus)).collect();
        let mut load =
            Self { plan, answered: Arc::default(), seen: Arc::default(), clients: JoinSet::new() };
        for client in 0..CLIENTS {
            load.clients.spawn(work(
                Arc::clone(&load.plan),
                client,
                bases.to_vec(),
                Arc::clone(&load.answered),
                Arc::clone(&load.seen),
            ));
        }
        load
    }

    /// Waits until so many adjustments are done.
    pub(crate) async fn reached(&self, changes: usize) {
        eventually(&format!("{changes} adjustments"), PATIENCE, async || {
            let answered = self.answered.load(Ordering::SeqCst);
            if answered >= changes { Ok(()) } else { Err((answered, self.seen())) }
        })
        .await;
    }

    /// What clients saw so far besides success.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().expect("no client panics with it").clone()
    }

    /// Waits for the last answer.
    pub(crate) async fn finished(&mut self) {
        self.reached(self.plan.len()).await;
        while let Some(client) = self.clients.join_next().await {
            client.expect("no client fails");
        }
    }

    /// Holds the source against the plan: every adjustment counted once.
    pub(crate) async fn assert_each_change_counted_once(&self, product: &Service) {
        let mut expected: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for change in self.plan.iter() {
            let (quantity, version) = expected.entry(&change.sku).or_insert((OPENING, 1));
            *quantity += change.delta;
            *version += 1;
        }
        for item in product.inventory().await {
            let expected = expected.get(item.sku.as_str()).copied().unwrap_or((OPENING, 1));
            assert_eq!((item.quantity, item.version), expected, "{}", item.sku);
        }
        let adjustments = product.count("SELECT count(*) AS n FROM adjustment").await;
        assert_eq!(adjustments, i64::try_from(self.plan.len()).expect("few"));
    }
}

impl Change {
    fn new(random: &mut Random, run: u64, n: usize, skus: u64) -> Self {
        // One to nine pieces, coming or going.
        let pieces = i64::try_from(1 + random.below(9)).expect("few");
        let delta = if random.below(2) == 0 { pieces } else { -pieces };
        Self { sku: name(random.below(skus)), delta, key: format!("{run:x}-{n}") }
    }
}

fn name(sku: u64) -> String {
    format!("SKU-{sku:03}")
}

async fn work(
    plan: Arc<[Change]>,
    client: usize,
    bases: Vec<Base>,
    answered: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
) {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("an HTTP client can be made");
    for (n, change) in plan.iter().enumerate().skip(client).step_by(CLIENTS) {
        let mut tries = n;
        while !attempt(&http, &bases[tries % bases.len()], change, &seen).await {
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the adjustment was answered with success.
async fn attempt(http: &reqwest::Client, base: &Base, change: &Change, seen: &Mutex<Seen>) -> bool {
    let url = format!("{}/api/v1/inventory/{}/adjustments", base.get(), change.sku);
    let body = json!({"delta": change.delta, "reason": "load", "reference": change.key});
    let asked = http.post(url).header("idempotency-key", &change.key).json(&body).send().await;
    let Ok(response) = asked else {
        seen.lock().expect("no client panics with it").broken += 1;
        return false;
    };
    let status = response.status();
    // An answer that breaks off is none.
    let whole = response.json::<Value>().await.is_ok();
    if !status.is_success() {
        seen.lock().expect("no client panics with it").statuses.insert(status.as_u16());
    }
    status.is_success() && whole
}
