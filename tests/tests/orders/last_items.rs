//! Clients that compete for the last items of a few products, through both services as they run.

use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use crate::system::random::Random;
use crate::system::{BaseUrl, DEADLINE, TestSystem, http_client};

const CLIENTS: u64 = 8;
const SKUS: [&str; 3] = ["LAST-A", "LAST-B", "LAST-C"];
/// Pieces of each product.
const OPENING: i64 = 25;
/// How often a client tries before it takes a no for an answer.
const TRIES: usize = 15;
/// Orders after which both services are killed: they are in the middle of their work by then.
const SOME: i64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn as_many_units_are_confirmed_as_there_were_embedded() {
    compete(TestSystem::embedded().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_units_are_confirmed_as_there_were_on_real_parts() {
    if let Some(system) = TestSystem::real("last-items").await {
        compete(system, true).await;
    }
}

async fn compete(mut system: TestSystem, kills: bool) {
    for sku in SKUS {
        system.product.put_product(sku, OPENING).await;
    }
    system.wait_until_settled().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(buy(system.order.base_url.clone(), http_client(1), client));
    }
    if kills {
        eventually("some orders to be placed", DEADLINE, async || {
            match system.order.count("SELECT count(*) AS n FROM orders").await {
                placed @ ..SOME => Err(placed),
                _ => Ok(()),
            }
        })
        .await;
        system.product.kill9();
        system.product.start();
        system.order.kill9();
        system.order.start();
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client fails");
    }
    wait_until_orders_settled(&system).await;
    // What cancellations brought back is bought by the piece, until nothing is left.
    for sku in SKUS {
        loop {
            let response = system.order.post("/api/v1/orders", order(&[(sku, 1)])).await;
            if response.status != 201 {
                assert_eq!(response.status, 409, "{response:?}");
                break;
            }
        }
    }
    wait_until_orders_settled(&system).await;
    let confirmed = "SELECT CAST(coalesce(sum(l.quantity), 0) AS BIGINT) AS n FROM orders o \
                     JOIN order_line l ON l.order_id = o.id WHERE o.status = 'CONFIRMED'";
    let there_were = OPENING * i64::try_from(SKUS.len()).expect("few");
    assert_eq!(system.order.count(confirmed).await, there_were);
    for row in system.product.inventory().await {
        assert_eq!(row.quantity, 0, "{row:?}");
    }
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
    let cancelled = "SELECT count(*) AS n FROM orders WHERE status = 'CANCELLED'";
    assert!(system.order.count(cancelled).await > 0, "some were cancelled");
    assert_eq!(system.order.count("SELECT count(*) AS n FROM reservation").await, 0);
    system.stop().await;
}

/// Orders at random and cancels every fifth, whatever it has come to; a request without an answer is repeated.
async fn buy(base: BaseUrl, http: reqwest::Client, client: u64) {
    let mut random = Random::seeded(client);
    for n in 0..TRIES {
        let below = |random: &mut Random| usize::try_from(random.below(3)).expect("few");
        let (one, two) = (SKUS[below(&mut random)], SKUS[below(&mut random)]);
        let pieces = i64::try_from(1 + random.below(3)).expect("few");
        let key = format!("{client}-{n}");
        let body = order(&[(one, pieces), (two, 1)]);
        let (status, placed) = post(&http, &base, "/api/v1/orders", &key, &body).await;
        if status == 409 {
            continue;
        }
        assert_eq!(status, 201, "{placed}");
        if n % 5 == 0 {
            let path = format!("/api/v1/orders/{}/cancel", placed["id"].as_str().expect("an id"));
            let (status, answer) = post(&http, &base, &path, &key, &json!({})).await;
            // The owner may have refused the order by then.
            assert!(status == 202 || status == 409, "{answer}");
        }
    }
}

async fn post(
    http: &reqwest::Client,
    base: &BaseUrl,
    path: &str,
    key: &str,
    body: &Value,
) -> (u16, Value) {
    loop {
        let url = format!("{}{path}", base.get());
        let asked = http.post(url).header("idempotency-key", key).json(body).send().await;
        if let Ok(response) = asked {
            let status = response.status().as_u16();
            // A key whose first request is still under way is asked again as well.
            if let Ok(answer) = response.json::<Value>().await
                && status < 500
                && answer["type"] != "urn:stockloop:problem:idempotency-running"
            {
                return (status, answer);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn order(lines: &[(&str, i64)]) -> Value {
    let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
    json!({"customer": "17850", "lines": lines.iter().map(line).collect::<Vec<_>>()})
}

/// Waits until all events are PROCESSED: then every order has its answer.
async fn wait_until_orders_settled(system: &TestSystem) {
    system.wait_until_settled().await;
    let unsettled = "SELECT count(*) AS n FROM orders \
                     WHERE status NOT IN ('CONFIRMED', 'REJECTED', 'CANCELLED')";
    assert_eq!(system.order.count(unsettled).await, 0);
}
