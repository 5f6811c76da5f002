//! A new or emptied copy is filled by its owner while changes flow, and says what it lacks until it is complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use crate::system::{BaseUrl, DEADLINE, RealParts, TestService, TestSystem, http_client};

/// Products that the owner has before there is a copy; `P9999` comes last.
const PRODUCTS: i64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_copy_is_filled_with_a_proof_whoever_is_killed() {
    let Some(parts) = RealParts::shared("bootstrap") else { return };
    let mut system = TestSystem::prepared("bootstrap", parts).await;
    system.product.start();
    stock(&system.product).await;
    let changes = Changes::start(system.product.base_url.clone());
    system.order.start();

    let refused = order(&system.order, "P9999").await;
    assert_eq!(refused["type"], "urn:stockloop:problem:copy-not-complete", "{refused}");
    assert_eq!(
        (&refused["status"], ready(&system.order).await),
        (&json!(503), json!("not complete"))
    );
    until_sent(&system.product, 1_500).await;
    system.product.kill9();
    system.product.start();
    let sent = until_sent(&system.product, 6_000).await;
    assert_eq!((&sent["seq"], &sent["expected"]), (&json!("1"), &json!(PRODUCTS)), "{sent}");
    system.order.kill9();
    system.order.start();
    assert_eq!(ready(&system.order).await, "not complete");
    let known = order(&system.order, "P1").await;
    assert_eq!(known["status"], "PENDING", "what it knows can be ordered: {known}");

    let filled = until_filled(&system).await;
    assert_eq!((&filled["seq"], &filled["state"]), (&json!("1"), &json!("done")), "{filled}");
    let done = filled["done"].as_i64().unwrap();
    assert!((PRODUCTS..=PRODUCTS + 10).contains(&done), "each is sent once: {filled}");
    let placed = order(&system.order, "P9999").await;
    assert_eq!(placed["status"], "PENDING", "{placed}");
    assert_eq!(order(&system.order, "NONE").await["status"], 409, "there is no such product");
    assert!(changes.stop().await > 0, "changes flowed meanwhile");
    system.wait_until_settled().await;
    let verdict = verify(&system.product).await;
    assert_eq!(verdict["state"], "equal", "{verdict}");
    let (source, copy) = (
        system.product.product_rows("product").await,
        system.order.product_rows("product_copy").await,
    );
    assert_eq!(source.len(), copy.len());
    system.stop().await;
}

/// By hand, by a script, or because somebody began anew: the copy itself notices.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_copy_is_filled_without_anybody_asking() {
    let system = TestSystem::embedded().await;
    for n in 0..30 {
        system.product.put_product(&format!("P{n:02}"), 10).await;
    }
    system.order.wait_until_complete().await;
    system.wait_until_settled().await;
    system.order.execute("DELETE FROM product_copy").await;
    assert_eq!(ready(&system.order).await, "not complete");
    let refused = order(&system.order, "P07").await;
    assert_eq!(refused["type"], "urn:stockloop:problem:copy-not-complete", "{refused}");
    system.order.wait_until_complete().await;
    assert_eq!(order(&system.order, "P07").await["status"], "PENDING");
    assert_eq!(order(&system.order, "P30").await["type"], "urn:stockloop:problem:not-available");
    system.wait_until_settled().await;
    assert_eq!(system.product.inventory().await.len(), system.order.inventory().await.len());
    let alerts = "SELECT count(*) AS n FROM alert WHERE kind = 'drift'";
    assert_eq!(system.product.count(alerts).await, 0, "a copy that is being filled alarms nobody");
    system.stop().await;
}

/// How fast a million products come to an empty copy, beside how fast the loop carries changes: for people to run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of many minutes; BOOTSTRAP_PRODUCTS says how many products"]
async fn measure_the_filling_against_the_loop() {
    let products = std::env::var("BOOTSTRAP_PRODUCTS").map_or(1_000_000, |n| n.parse().unwrap());
    let Some(parts) = RealParts::shared("bootstrap_measured") else { return };
    let mut system = TestSystem::prepared("bootstrap_measured", parts).await;
    system.start_both();
    system.order.wait_until_complete().await;
    insert(&system.product, products).await;
    let all = json!({"kind": "resync", "selection": {"where": {}}});
    let began = Instant::now();
    system.product.post("/api/admin/v1/resyncs", all).await.ok();
    until_at_rest(&system, products).await;
    let loop_rate = products as f64 / began.elapsed().as_secs_f64();
    system.order.execute("DELETE FROM product_copy").await;
    let began = Instant::now();
    let filled = until_filled(&system).await;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{products} products: the loop {loop_rate:.0} per second; sent {} per second, complete after {took:.0} s, {:.0} per second\n{filled}",
        filled["keys_per_second"],
        products as f64 / took
    );
    system.stop().await;
}

async fn until_at_rest(system: &TestSystem, products: i64) {
    let patience = Duration::from_secs(3_600);
    eventually("all to be in the copy", patience, async || {
        let there = system.order.count("SELECT count(*) AS n FROM product_copy").await;
        let open = system
            .product
            .count("SELECT count(*) AS n FROM (SELECT 1 FROM outbox_sent LIMIT 1) AS s")
            .await;
        if there == products && open == 0 { Ok(()) } else { Err((there, open)) }
    })
    .await;
}

/// Products put there by the database itself, without any event.
async fn stock(product: &TestService) {
    insert(product, PRODUCTS).await;
}

async fn insert(product: &TestService, products: i64) {
    let sql = format!(
        "INSERT INTO product (sku, description, quantity, unit_price_minor, version, updated_us) \
         SELECT 'P' || n, 'about ' || n, 1000000, 100, 1, 1800000000000000 FROM generate_series(1, {products}) AS n"
    );
    product.execute(sql.leak()).await;
}

/// What an order for one piece is answered.
async fn order(service: &TestService, sku: &str) -> Value {
    let body = json!({"customer": "17850", "lines": [{"sku": sku, "quantity": 1}]});
    service.post("/api/v1/orders", body).await.body
}

/// What the readiness says of the copy.
async fn ready(service: &TestService) -> Value {
    service.get("/health/ready").await.ok()["copy"].clone()
}

async fn newest(product: &TestService) -> Value {
    product.get("/api/admin/v1/bootstraps?limit=1").await.ok()["items"][0].clone()
}

/// Waits until so many keys are sent, and there are more to come.
async fn until_sent(product: &TestService, keys: i64) -> Value {
    eventually("some keys to be sent", DEADLINE, async || {
        let row = newest(product).await;
        if row["done"].as_i64().is_some_and(|done| done >= keys) { Ok(row) } else { Err(row) }
    })
    .await
}

async fn until_filled(system: &TestSystem) -> Value {
    let patience = Duration::from_secs(3_600);
    let filled = eventually("the filling to end", patience, async || {
        let row = newest(&system.product).await;
        let is_over = !row["ended_at"].is_null() && ready(&system.order).await == "complete";
        if is_over { Ok(row) } else { Err(row) }
    });
    filled.await
}

async fn verify(product: &TestService) -> Value {
    let asked = product.post("/api/admin/v1/verifications", json!({})).await.ok();
    let path = format!("/api/admin/v1/verifications/{}", asked["seq"].as_str().unwrap());
    product.wait_for_end(&path).await
}

/// Changes at the owner, one after the other, whoever is away.
struct Changes {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Changes {
    fn start(base: BaseUrl) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (http, mut done) = (http_client(1), 0);
            for n in (1..=PRODUCTS).cycle().step_by(97) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let url = format!("{}/api/v1/inventory/P{n}/adjustments", base.get());
                let body = json!({"delta": -1, "reason": "sale"});
                let answer = http.post(url).json(&body).send().await;
                done += usize::from(answer.is_ok_and(|answer| answer.status().is_success()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            done
        });
        Self { stop, task }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends")
    }
}
