//! Clients that fight over the last items of a few products, through both services as they run.

use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use tokio::task::JoinSet;

use crate::stage::random::Random;
use crate::stage::{PATIENCE, Stage};

const CLIENTS: u64 = 8;
const SKUS: [&str; 3] = ["LAST-A", "LAST-B", "LAST-C"];
/// Pieces of each product.
const OPENING: i64 = 25;
/// How often a client tries before it takes a no for an answer.
const TRIES: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn as_many_units_are_confirmed_as_there_were_embedded() {
    fight(Stage::embedded().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_units_are_confirmed_as_there_were_on_real_parts() {
    if let Some(stage) = Stage::real("last-items").await {
        fight(stage, true).await;
    }
}

async fn fight(mut stage: Stage, kills: bool) {
    for sku in SKUS {
        stage.product.put_product(sku, OPENING).await;
    }
    stage.settled().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(buy(stage.order.base.clone(), stage.order.http.clone(), client));
    }
    if kills {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.product.kill9();
        stage.product.start();
        stage.order.kill9();
        stage.order.start();
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client fails");
    }
    orders_settled(&stage).await;
    // What cancellations brought back is bought by the piece, until nothing is left.
    for sku in SKUS {
        loop {
            let response = stage.order.post("/api/v1/orders", order(&[(sku, 1)])).await;
            if response.status != 201 {
                assert_eq!(response.status, 409, "{response:?}");
                break;
            }
        }
    }
    orders_settled(&stage).await;
    let confirmed = "SELECT CAST(coalesce(sum(l.quantity), 0) AS BIGINT) AS n FROM orders o \
                     JOIN order_line l ON l.order_id = o.id WHERE o.status = 'CONFIRMED'";
    let there_were = OPENING * i64::try_from(SKUS.len()).expect("few");
    assert_eq!(stage.order.count(confirmed).await, there_were);
    for item in stage.product.inventory().await {
        assert_eq!(item.quantity, 0, "{item:?}");
    }
    assert_eq!(stage.product.inventory().await, stage.order.inventory().await);
    let cancelled = "SELECT count(*) AS n FROM orders WHERE status = 'CANCELLED'";
    assert!(stage.order.count(cancelled).await > 0, "some were cancelled");
    assert_eq!(stage.order.count("SELECT count(*) AS n FROM reservation").await, 0);
    stage.stop().await;
}

/// Orders at random and cancels every fifth, whatever it has come to; a request without an answer is repeated.
async fn buy(base: crate::stage::Base, http: reqwest::Client, client: u64) {
    let mut random = Random::seeded(client);
    for n in 0..TRIES {
        let below = |random: &mut Random| usize::try_from(random.below(3)).expect("few");
        let (one, two) = (SKUS[below(&mut random)], SKUS[below(&mut random)]);
        let pieces = i64::try_from(1 + random.below(3)).expect("few");
        let key = format!("{client}-{n}");
        let body = order(&[(one, pieces), (two, 1)]);
        let (status, placed) = ask(&http, &base, "/api/v1/orders", &key, &body).await;
        if status == 409 {
            continue;
        }
        assert_eq!(status, 201, "{placed}");
        if n % 5 == 0 {
            let path = format!("/api/v1/orders/{}/cancel", placed["id"].as_str().expect("an id"));
            let (status, answer) = ask(&http, &base, &path, &key, &json!({})).await;
            // The owner may have refused the order by then.
            assert!(status == 202 || status == 409, "{answer}");
        }
    }
}

async fn ask(
    http: &reqwest::Client,
    base: &crate::stage::Base,
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

/// Waits until both services' events are PROCESSED: then every order has its answer.
async fn orders_settled(stage: &Stage) {
    eventually("every order to be settled", PATIENCE, async || {
        let order = stage.order.open_events().await.map_err(|error| error.to_string())?;
        let product = stage.product.open_events().await.map_err(|error| error.to_string())?;
        match order.is_empty() && product.is_empty() {
            true => Ok(()),
            false => Err(format!("{order:?} {product:?}")),
        }
    })
    .await;
    let unsettled = "SELECT count(*) AS n FROM orders \
                     WHERE status NOT IN ('CONFIRMED', 'REJECTED', 'CANCELLED')";
    assert_eq!(stage.order.count(unsettled).await, 0);
}
