//! A service's HTTP as a client sees it.

use std::time::Duration;

use common::http_client::IDLE;
use reqwest::Method;
use serde_json::{Value, json};
use stockloop_tests::http::TestResponse;
use stockloop_tests::poll::eventually;

use super::settings::ADMIN_TOKEN;
use super::{DEADLINE, TestService};

/// A client that gives up after 30 s, and keeps up to `idle` connections open, none for so long that a service closes it.
pub(crate) fn http_client(idle: usize) -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30));
    let client = client.pool_idle_timeout(IDLE);
    client.pool_max_idle_per_host(idle).build().expect("an HTTP client can be made")
}

/// The text that `value` has to be.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

impl TestService {
    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> TestResponse {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> TestResponse {
        self.send(Method::DELETE, path, None).await
    }

    /// Puts a product in, or replaces it.
    pub(crate) async fn put_product(&self, sku: &str, quantity: i64) -> Value {
        let body = json!({
            "description": format!("About {sku}"),
            "quantity": quantity,
            "unit_price_minor": 255,
        });
        self.put(&format!("/api/v1/inventory/{}", segment(sku)), body).await.ok()
    }

    /// Changes a product's stock.
    pub(crate) async fn adjust(&self, sku: &str, delta: i64) -> Value {
        let body = json!({"delta": delta, "reason": "test"});
        self.post(&format!("/api/v1/inventory/{}/adjustments", segment(sku)), body).await.ok()
    }

    /// Places an order for `quantity` pieces of one product.
    pub(crate) async fn place_order(&self, sku: &str, quantity: i64) -> Value {
        let lines = json!([{"sku": sku, "quantity": quantity}]);
        self.post("/api/v1/orders", json!({"customer": "17850", "lines": lines})).await.ok()
    }

    /// Waits until one of its orders has this status.
    pub(crate) async fn wait_for_order(&self, id: &str, status: &str) {
        eventually(&format!("an order to be {status}"), DEADLINE, async || {
            let found = self.get(&format!("/api/v1/orders/{id}")).await.ok();
            if found["status"] == status { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Waits until what is at `path` and takes a while has ended, and returns it.
    pub(crate) async fn wait_for_end(&self, path: &str) -> Value {
        eventually(&format!("the end of {path}"), DEADLINE, async || {
            let found = self.get(path).await.ok();
            if found["ended_at"].is_null() { Err(found) } else { Ok(found) }
        })
        .await
    }

    /// All that it tells Prometheus.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.base_url.get());
        let request = self.http.get(url).header("accept", "text/plain;version=0.0.4");
        request.send().await.expect("an answer").text().await.expect("text")
    }

    /// Lets it refuse what concerns `key`.
    pub(crate) async fn quarantine(&self, key: &str, reason: &str) {
        let path = format!("/api/admin/v1/quarantine/{}", segment(key));
        let response = self.put(&path, json!({ "reason": reason })).await;
        assert_eq!(response.status, 201, "{response:?}");
    }

    /// Lets it take what concerns `key` again.
    pub(crate) async fn release(&self, key: &str) {
        let response = self.delete(&format!("/api/admin/v1/quarantine/{}", segment(key))).await;
        assert_eq!(response.status, 204, "{response:?}");
    }

    /// One of its events, with its history.
    pub(crate) async fn event(&self, id: &str) -> Value {
        self.get(&format!("/api/admin/v1/events/{id}")).await.ok()
    }

    /// The id of the newest event of `key`.
    pub(crate) async fn newest_event(&self, key: &str) -> String {
        let list = self.get(&format!("/api/admin/v1/events?key={}", segment(key))).await.ok();
        text(&list["items"][0]["id"])
    }

    /// Waits until `count` events are EXHAUSTED, and returns them, newest first.
    pub(crate) async fn wait_for_exhausted(&self, count: usize) -> Vec<Value> {
        self.wait_for_events("status=EXHAUSTED", count).await
    }

    /// Waits until an event of `key` is EXHAUSTED, and returns it.
    pub(crate) async fn wait_for_exhausted_key(&self, key: &str) -> Value {
        let filter = format!("status=EXHAUSTED&key={}", segment(key));
        self.wait_for_events(&filter, 1).await.remove(0)
    }

    async fn wait_for_events(&self, filter: &str, count: usize) -> Vec<Value> {
        let path = format!("/api/admin/v1/events?{filter}");
        eventually(&format!("{count} events with {filter}"), DEADLINE, async || {
            let list = self.get(&path).await.ok();
            match list["items"].as_array() {
                Some(events) if events.len() == count => Ok(events.clone()),
                _ => Err(list),
            }
        })
        .await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> TestResponse {
        let url = format!("{}{path}", self.base_url.get());
        let mut request = self.http.request(method, &url).bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        for _ in 1..self.tries {
            let again = request.try_clone().expect("its body is in memory");
            if let Ok(response) = again.send().await {
                return TestResponse::received(response).await;
            }
        }
        TestResponse::received(request.send().await.expect("an answer")).await
    }
}

/// `text` as one segment of a path, or as a value of a query.
pub(crate) fn segment(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'-' | b'.' | b'_' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}
