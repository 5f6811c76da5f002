//! Clients that adjust stock all the time and repeat what got no answer, and the model of what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use super::random::Random;
use super::{BaseUrl, DEADLINE, TestService, TestSystem, http_client};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// Enough that no sequence of adjustments gets below zero.
pub(crate) const OPENING: i64 = 1_000_000;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// One adjustment of the plan.
#[derive(Debug, Clone)]
struct Adjustment {
    sku: String,
    delta: i64,
    key: String,
}

/// What clients got besides success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Statuses of answers that were no success.
    pub(crate) statuses: BTreeSet<u16>,
    /// Requests without any answer.
    pub(crate) unanswered: usize,
}

/// A load under way.
pub(crate) struct Load {
    plan: Arc<[Adjustment]>,
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Failures>>,
    clients: JoinSet<()>,
}

impl Load {
    /// Puts `skus` products in and begins with `changes` adjustments of them, asked of `bases` in turn.
    pub(crate) async fn start(
        random: &mut Random,
        product: &TestService,
        bases: &[BaseUrl],
        skus: u64,
        changes: usize,
    ) -> Self {
        for sku in 0..skus {
            product.put_product(&name(sku), OPENING).await;
        }
        let run = random.next();
        let plan: Arc<[Adjustment]> =
            (0..changes).map(|n| Adjustment::new(random, run, n, skus)).collect();
        let mut load = Self {
            plan,
            answered: Arc::default(),
            failures: Arc::default(),
            clients: JoinSet::new(),
        };
        for client in 0..CLIENTS {
            load.clients.spawn(run_client(
                Arc::clone(&load.plan),
                client,
                bases.to_vec(),
                Arc::clone(&load.answered),
                Arc::clone(&load.failures),
            ));
        }
        load
    }

    /// Waits until so many adjustments are done, as long as some are.
    pub(crate) async fn reached(&self, changes: usize) {
        let mut before = 0;
        while before < changes {
            let more = format!("more than {before} of {changes} adjustments");
            before = eventually(&more, DEADLINE, async || {
                let answered = self.answered.load(Ordering::SeqCst);
                if answered > before { Ok(answered) } else { Err(self.failures()) }
            })
            .await;
        }
    }

    /// What clients got so far besides success.
    pub(crate) fn failures(&self) -> Failures {
        self.failures.lock().expect("no client panics with it").clone()
    }

    /// Waits for the last answer.
    pub(crate) async fn finished(&mut self) {
        self.reached(self.plan.len()).await;
        while let Some(client) = self.clients.join_next().await {
            client.expect("no client fails");
        }
    }

    /// Waits for the last answer and until the system is at rest: each adjustment counted once, and nothing gave up.
    pub(crate) async fn assert_all_arrived(&mut self, system: &TestSystem) {
        self.finished().await;
        system.wait_until_settled().await;
        system.assert_equal_at_rest().await;
        system.assert_nothing_gave_up().await;
        self.assert_each_counted_once(&system.product).await;
    }

    /// Holds the source against the plan.
    async fn assert_each_counted_once(&self, product: &TestService) {
        let mut expected: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for adjustment in self.plan.iter() {
            let (quantity, version) = expected.entry(&adjustment.sku).or_insert((OPENING, 1));
            *quantity += adjustment.delta;
            *version += 1;
        }
        for row in product.inventory().await {
            let expected = expected.get(row.sku.as_str()).copied().unwrap_or((OPENING, 1));
            assert_eq!((row.quantity, row.version), expected, "{}", row.sku);
        }
        let adjustments = product.count("SELECT count(*) AS n FROM adjustment").await;
        assert_eq!(adjustments, i64::try_from(self.plan.len()).expect("few"));
    }
}

impl Adjustment {
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

async fn run_client(
    plan: Arc<[Adjustment]>,
    client: usize,
    bases: Vec<BaseUrl>,
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Failures>>,
) {
    let http = http_client(1);
    for (n, adjustment) in plan.iter().enumerate().skip(client).step_by(CLIENTS) {
        let mut tries = n;
        while !adjust(&http, &bases[tries % bases.len()], adjustment, &failures).await {
            tries += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the adjustment was answered with success.
async fn adjust(
    http: &reqwest::Client,
    base: &BaseUrl,
    adjustment: &Adjustment,
    failures: &Mutex<Failures>,
) -> bool {
    let Adjustment { sku, delta, key } = adjustment;
    let url = format!("{}/api/v1/inventory/{sku}/adjustments", base.get());
    let body = json!({"delta": delta, "reason": "load", "reference": key});
    let asked = http.post(url).header("idempotency-key", key).json(&body).send().await;
    let Ok(response) = asked else {
        failures.lock().expect("no client panics with it").unanswered += 1;
        return false;
    };
    let status = response.status();
    // An answer that breaks off is none.
    let whole = response.json::<Value>().await.is_ok();
    if !status.is_success() {
        failures.lock().expect("no client panics with it").statuses.insert(status.as_u16());
    }
    status.is_success() && whole
}
