//! A client of both services, over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use common::http_client::IDLE;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::views::Order as SoldOrder;
use crate::dataset::{Product, SalesLine};
use crate::stack::Stack;

/// How often a request that is answered 503 is sent, and the pause before the next try.
const TRIES: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// An HTTP client of both services; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    product: String,
    order: String,
    /// Makes the Idempotency-Keys of this run its own.
    run: String,
}

/// How many events are in which state, as product-service shows operators.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Overview {
    pub(crate) events: Counts,
    pub(crate) oldest_unacknowledged: Option<Oldest>,
}

/// Events by status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) sent: u64,
    pub(crate) exhausted: u64,
    pub(crate) processed: u64,
}

/// The event that waits longest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Oldest {
    pub(crate) age_seconds: f64,
}

/// The result of one line of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct LineResult {
    pub(crate) line: usize,
    pub(crate) status: String,
    pub(crate) problem: Option<Problem>,
}

/// Why a line, or what it needs, was refused.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) detail: String,
}

#[derive(Deserialize)]
struct BatchResult {
    lines: Vec<LineResult>,
}

/// A page of events.
#[derive(Debug, Deserialize)]
pub(crate) struct EventPage {
    pub(crate) items: Vec<Event>,
    pub(crate) next: Option<String>,
}

/// One event of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
}

/// A page of products.
#[derive(Deserialize)]
struct ProductPage {
    items: Vec<Value>,
    next: Option<String>,
}

/// What became of placing an order.
#[derive(Debug)]
pub(crate) enum PlaceOutcome {
    /// It is accepted, under this id.
    Order(String),
    /// There is not enough by the copy, or the order is not one.
    Refused,
}

#[derive(Deserialize)]
struct Order {
    id: String,
}

#[derive(Deserialize)]
struct OrderPage {
    items: Vec<Order>,
}

impl Client {
    pub(crate) fn new(stack: &Stack, run: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .pool_idle_timeout(IDLE)
            .build()
            .context("the HTTP client can't be made")?;
        Ok(Self {
            http,
            product: format!("http://{}", stack.product.address()),
            order: format!("http://{}", stack.order.address()),
            run: run.to_owned(),
        })
    }

    /// Creates a product, or sets it to its opening stock; why not, if product-service refuses it.
    pub(crate) async fn put_product(&self, product: &Product) -> anyhow::Result<Option<Problem>> {
        let url = format!("{}/api/v1/inventory/{}", self.product, escape(&product.sku));
        let body = json!({
            "description": product.description,
            "quantity": product.opening_stock,
            "unit_price_minor": product.unit_price_minor,
        });
        Ok(self.ask(Method::PUT, &url, Some(&body), None).await?.err())
    }

    /// Plays lines, in order, as one batch of adjustments; if that is refused, one by one.
    pub(crate) async fn adjust(&self, lines: &[SalesLine]) -> anyhow::Result<Vec<LineResult>> {
        // No other batch has its first line.
        let key = lines.first().map_or(0, |first| first.line).to_string();
        match self.adjust_lines(lines, &key).await? {
            Ok(results) => Ok(results),
            Err(_) => self.adjust_one_by_one(lines).await,
        }
    }

    /// One line that can't be read spoils a whole batch: alone, it spoils nothing but itself.
    async fn adjust_one_by_one(&self, lines: &[SalesLine]) -> anyhow::Result<Vec<LineResult>> {
        let mut results = Vec::with_capacity(lines.len());
        for (place, line) in lines.iter().enumerate() {
            let key = format!("line-{}", line.line);
            results.push(match self.adjust_lines(std::slice::from_ref(line), &key).await? {
                Ok(answers) => {
                    let answer = answers.into_iter().next().context("a line without an answer")?;
                    LineResult { line: place, ..answer }
                }
                Err(problem) => {
                    LineResult { line: place, status: "refused".to_owned(), problem: Some(problem) }
                }
            });
        }
        Ok(results)
    }

    async fn adjust_lines(
        &self,
        lines: &[SalesLine],
        key: &str,
    ) -> anyhow::Result<Result<Vec<LineResult>, Problem>> {
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| {
                let reason = if line.delta() < 0 { "sale" } else { "return" };
                json!({"sku": line.sku, "delta": line.delta(), "reason": reason, "reference": line.invoice})
            })
            .collect();
        let url = format!("{}/api/v1/adjustments", self.product);
        let key = format!("{}-{key}", self.run);
        let body = json!({ "lines": lines });
        let response = match self.ask(Method::POST, &url, Some(&body), Some(&key)).await? {
            Ok(response) => response,
            Err(problem) => return Ok(Err(problem)),
        };
        let result: BatchResult =
            response.json().await.context("a batch's response can't be read")?;
        Ok(Ok(result.lines))
    }

    /// Changes the stock of several products at once; lines that the owner refuses change nothing.
    pub(crate) async fn deliver(
        &self,
        lines: &[(&str, i64)],
        reference: &str,
    ) -> anyhow::Result<()> {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(sku, delta)| json!({"sku": sku, "delta": delta, "reason": "delivery", "reference": reference}))
            .collect();
        let url = format!("{}/api/v1/adjustments", self.product);
        let key = format!("{}-{reference}", self.run);
        let body = json!({ "lines": lines });
        self.send(Method::POST, &url, Some(&body), Some(&key)).await.map(drop)
    }

    /// The stock of a product at its owner now.
    pub(crate) async fn stock(&self, sku: &str) -> anyhow::Result<Option<i64>> {
        let url = format!("{}/api/v1/inventory/{}", self.product, escape(sku));
        let product: Value =
            self.send(Method::GET, &url, None, None).await?.json().await.context("a product")?;
        Ok(product["quantity"].as_i64())
    }

    /// All products, page by page.
    pub(crate) async fn inventory(&self) -> anyhow::Result<Vec<Value>> {
        let (mut products, mut after) = (Vec::new(), String::new());
        loop {
            let url = format!("{}/api/v1/inventory?limit=1000{after}", self.product);
            let response = self.send(Method::GET, &url, None, None).await?;
            let page: ProductPage =
                response.json().await.context("the list of products can't be read")?;
            products.extend(page.items);
            match page.next {
                Some(next) => after = format!("&after={}", escape(&next)),
                None => return Ok(products),
            }
        }
    }

    /// An order, as order-service has it.
    pub(crate) async fn order(&self, id: &str) -> anyhow::Result<SoldOrder> {
        let url = format!("{}/api/v1/orders/{id}", self.order);
        let response = self.send(Method::GET, &url, None, None).await?;
        response.json().await.with_context(|| format!("the order {id} can't be read"))
    }

    /// Places an order at order-service.
    pub(crate) async fn place(
        &self,
        customer: &str,
        pieces: &BTreeMap<String, i64>,
    ) -> anyhow::Result<PlaceOutcome> {
        let lines: Vec<Value> = pieces
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let url = format!("{}/api/v1/orders", self.order);
        let body = json!({ "customer": customer, "lines": lines });
        let response = self.http.post(&url).json(&body).send().await.context("an order")?;
        match response.status() {
            StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Ok(PlaceOutcome::Refused),
            StatusCode::CREATED => {
                let order: Order =
                    response.json().await.context("an order's response can't be read")?;
                Ok(PlaceOutcome::Order(order.id))
            }
            _ => bail!("placing an order: {}", response.text().await.unwrap_or_default()),
        }
    }

    /// Cancels an order; one that has ended already stays as it is.
    pub(crate) async fn cancel(&self, id: &str) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/orders/{id}/cancel", self.order);
        let response = self.http.post(&url).send().await.context("a cancellation")?;
        match response.status() {
            StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => bail!("cancelling {id}: {}", response.text().await.unwrap_or_default()),
        }
    }

    /// Whether any order has this status.
    pub(crate) async fn any_order(&self, status: &str) -> anyhow::Result<bool> {
        let url = format!("{}/api/v1/orders?status={status}&limit=1", self.order);
        let page: OrderPage = self
            .send(Method::GET, &url, None, None)
            .await?
            .json()
            .await
            .context("the list of orders can't be read")?;
        Ok(!page.items.is_empty())
    }

    /// Puts a SKU into quarantine at order-service.
    pub(crate) async fn quarantine(&self, sku: &str) -> anyhow::Result<()> {
        let url = format!("{}/api/admin/v1/quarantine/{}", self.order, escape(sku));
        let body = json!({"reason": "the demo shows what a fault looks like"});
        self.send(Method::PUT, &url, Some(&body), None).await.map(drop)
    }

    /// Releases a SKU from quarantine.
    pub(crate) async fn release(&self, sku: &str) -> anyhow::Result<()> {
        let url = format!("{}/api/admin/v1/quarantine/{}", self.order, escape(sku));
        self.send(Method::DELETE, &url, None, None).await.map(drop)
    }

    /// What product-service shows operators now.
    pub(crate) async fn overview(&self) -> anyhow::Result<Overview> {
        let url = format!("{}/api/admin/v1/overview", self.product);
        let response = self.send(Method::GET, &url, None, None).await?;
        response.json().await.context("the overview can't be read")
    }

    /// A page of EXHAUSTED events.
    pub(crate) async fn exhausted(&self, after: Option<&str>) -> anyhow::Result<EventPage> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let url = format!("{}/api/admin/v1/events?status=EXHAUSTED&limit=500{after}", self.product);
        let response = self.send(Method::GET, &url, None, None).await?;
        response.json().await.context("the list of events can't be read")
    }

    /// Retries an event as an operator would; false if it needs no retry any more.
    pub(crate) async fn retry(&self, id: &str) -> anyhow::Result<bool> {
        let url = format!("{}/api/admin/v1/events/{id}/retry", self.product);
        let body = json!({"reason": "the quarantine is over"});
        for _ in 0..TRIES {
            let response = self.http.post(&url).json(&body).send().await.context("a retry")?;
            match response.status() {
                StatusCode::CONFLICT => return Ok(false),
                StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(RETRY_PAUSE).await,
                status if status.is_success() => return Ok(true),
                _ => bail!("retrying {id}: {}", response.text().await.unwrap_or_default()),
            }
        }
        bail!("retrying {id}: the service was not available {TRIES} times")
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Response> {
        match self.ask(method.clone(), url, body, key).await? {
            Ok(response) => Ok(response),
            Err(problem) => bail!("{method} {url}: {}: {}", problem.title, problem.detail),
        }
    }

    /// The response, or why the service refuses what was asked.
    async fn ask(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Result<Response, Problem>> {
        let mut request = self.http.request(method.clone(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.with_context(|| format!("{method} {url}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response));
        }
        let text = response.text().await.unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(problem) if is_refusal(status) => Ok(Err(problem)),
            _ => bail!("{method} {url}: {status}: {text}"),
        }
    }
}

/// Whether it is about what was asked, and not about who asks, when, or how often.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// A SKU as a path segment: everything but unreserved characters is percent-encoded.
fn escape(sku: &str) -> String {
    let mut escaped = String::with_capacity(sku.len());
    for byte in sku.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
