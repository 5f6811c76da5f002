//! Clients of product-service: each has one connection, which it keeps, and one request at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::changes::{Change, Changes, Load, REASON, REFERENCE, product, sku};
use super::figures::Figures;
use crate::bench::parts::{Client, Target, words};
use crate::progress::progress_bar;

/// Products of one request: as many as it may have.
const BATCH: usize = 1_000;

/// Puts `products` in, or gives those that are there their opening stock again.
pub(in crate::bench) async fn fill(target: &Target, products: u32) -> Result<()> {
    let bar = progress_bar("putting products in".to_owned(), products as usize);
    let mut client = Client::connect(target).await?;
    let lines: Vec<Value> = (0..products).map(product).collect();
    for batch in lines.chunks(BATCH) {
        put(&mut client, batch).await?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What the service says of a batch.
#[derive(Deserialize)]
struct BatchAnswer {
    refused: usize,
}

async fn put(client: &mut Client, lines: &[Value]) -> Result<()> {
    let body = json!({ "mode": "replace", "lines": lines });
    let answer = client.post("/api/v1/inventory", body.to_string()).await?;
    let BatchAnswer { refused } =
        serde_json::from_slice(&answer).context("the answer to a batch can't be read")?;
    ensure!(refused == 0, "{refused} products were refused: {}", words(&answer));
    Ok(())
}

/// Lets all clients of `load` adjust stock, each the next product as soon as the one before is answered.
pub(in crate::bench) async fn adjust_all(target: &Target, load: &Load) -> Result<Figures> {
    let mut clients = Vec::new();
    for changes in load.by_client() {
        clients.push((Client::connect(target).await?, changes));
    }
    let (began, mut working) = (Instant::now(), JoinSet::new());
    for (client, changes) in clients {
        working.spawn(adjust_for(client, changes, began, load.time));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = working.join_next().await {
        latencies.extend(ended??);
    }
    Figures::of(latencies, began.elapsed())
}

/// Adjusts stock until `time` after `began`; returns how long each adjustment took, in ms.
async fn adjust_for(
    mut client: Client,
    mut changes: Changes,
    began: Instant,
    time: Duration,
) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while began.elapsed() < time {
        let change = changes.draw();
        let asked = Instant::now();
        adjust(&mut client, change).await?;
        latencies.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// Adjusts one product's stock; returns the answer.
pub(in crate::bench) async fn adjust(
    client: &mut Client,
    Change { product, delta }: Change,
) -> Result<Bytes> {
    let path = format!("/api/v1/inventory/{}/adjustments", sku(product));
    let body = format!(r#"{{"delta":{delta},"reason":"{REASON}","reference":"{REFERENCE}"}}"#);
    client.post(&path, body).await
}
