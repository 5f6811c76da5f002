//! A client of product-service: one connection, which it keeps, and one request at a time.
//!
//! It is hyper's connection itself. Client and service share the processors, and a pool of connections, redirects or
//! cookies, which are not needed, would be paid from the service's share.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::changes::{Change, Changes, Load, REASON, REFERENCE, product, sku};
use super::figures::Figures;
use crate::connection::{Connection, connect};
use crate::progress::progress_bar;

/// Products of one request: as many as it may have.
const BATCH: usize = 1_000;

/// Where the service is.
pub(super) struct Target {
    /// Host and port.
    address: String,
    host: HeaderValue,
}

impl Target {
    /// Reads `http://host:port`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let not_understood = || format!("the URL {url} is not understood: write http://host:port");
        let uri: Uri = url.parse().with_context(not_understood)?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        let host = host.with_context(not_understood)?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(&address).with_context(not_understood)?;
        Ok(Self { address, host })
    }
}

/// Puts `products` in, or gives those that are there their opening stock again.
pub(super) async fn fill(target: &Target, products: u32) -> Result<()> {
    let bar = progress_bar("putting products in".to_owned(), products as usize);
    let mut client = Client::connect(target).await?;
    let lines: Vec<Value> = (0..products).map(product).collect();
    for batch in lines.chunks(BATCH) {
        client.put(batch).await?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Lets all clients of `load` adjust stock, each the next product as soon as the one before is answered.
pub(super) async fn adjust(target: &Target, load: &Load) -> Result<Figures> {
    let mut clients = Vec::new();
    for changes in load.by_client() {
        clients.push((Client::connect(target).await?, changes));
    }
    let (began, mut working) = (Instant::now(), JoinSet::new());
    for (client, changes) in clients {
        working.spawn(client.adjust_for(changes, began, load.time));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = working.join_next().await {
        latencies.extend(ended??);
    }
    Figures::of(latencies, began.elapsed())
}

/// What the service says of a batch.
#[derive(Deserialize)]
struct BatchAnswer {
    refused: usize,
}

pub(super) struct Client {
    requests: Connection,
    host: HeaderValue,
}

impl Client {
    /// One that is connected.
    pub(super) async fn connect(target: &Target) -> Result<Self> {
        let Target { address, host } = target;
        Ok(Self { requests: connect(address).await?, host: host.clone() })
    }

    async fn put(&mut self, lines: &[Value]) -> Result<()> {
        let body = json!({ "mode": "replace", "lines": lines });
        let answer = self.post("/api/v1/inventory", body.to_string()).await?;
        let BatchAnswer { refused } =
            serde_json::from_slice(&answer).context("the answer to a batch can't be read")?;
        ensure!(refused == 0, "{refused} products were refused: {}", words(&answer));
        Ok(())
    }

    /// Adjusts stock until `time` after `began`; returns how long each adjustment took, in ms.
    async fn adjust_for(
        mut self,
        mut changes: Changes,
        began: Instant,
        time: Duration,
    ) -> Result<Vec<f64>> {
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            let change = changes.draw();
            let asked = Instant::now();
            self.adjust(change).await?;
            latencies.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        Ok(latencies)
    }

    /// Adjusts one product's stock; returns the answer.
    pub(super) async fn adjust(&mut self, Change { product, delta }: Change) -> Result<Bytes> {
        let path = format!("/api/v1/inventory/{}/adjustments", sku(product));
        let body = format!(r#"{{"delta":{delta},"reason":"{REASON}","reference":"{REFERENCE}"}}"#);
        self.post(&path, body).await
    }

    /// Reads what is at `path`.
    pub(super) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let request =
            Request::get(path).header(HOST, self.host.clone()).body(Full::new(Bytes::new()))?;
        self.ask(&format!("GET {path}"), request).await
    }

    async fn post(&mut self, path: &str, body: String) -> Result<Bytes> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a JSON document, or nothing.
    pub(super) async fn send(&mut self, method: Method, path: &str, body: String) -> Result<Bytes> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(Bytes::from(body)))?;
        self.ask(&what, request).await
    }

    /// The body of the answer, read to its end; one that is not 2xx is an error with its words.
    async fn ask(&mut self, what: &str, request: Request<Full<Bytes>>) -> Result<Bytes> {
        let lost = || format!("the connection was lost at {what}");
        self.requests.ready().await.with_context(lost)?;
        let response = self.requests.send_request(request).await.with_context(lost)?;
        let status = response.status();
        let answer = response.into_body().collect().await.with_context(lost)?.to_bytes();
        ensure!(status.is_success(), "{what} was answered {status}: {}", words(&answer));
        Ok(answer)
    }
}

/// The beginning of an answer, for messages.
fn words(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_host_and_may_leave_out_the_port() {
        let address = |url| Target::parse(url).ok().map(|target| target.address);
        assert_eq!(address("http://127.0.0.1:8081/").as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(address("http://[::1]").as_deref(), Some("[::1]:80"));
        for wrong in ["127.0.0.1:8081", "https://127.0.0.1:8081", "/api", ""] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
