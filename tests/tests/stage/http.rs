//! A service's HTTP as a client sees it.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Service;
use super::settings::ADMIN_TOKEN;

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) etag: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that has to be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }
}

impl Service {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }

    /// Puts a product in, or replaces it.
    pub(crate) async fn put_product(&self, sku: &str, quantity: i64) -> Value {
        let body = serde_json::json!({
            "description": format!("About {sku}"),
            "quantity": quantity,
            "unit_price_minor": 255,
        });
        self.put(&format!("/api/v1/inventory/{sku}"), body).await.ok()
    }

    /// Changes a product's stock.
    pub(crate) async fn adjust(&self, sku: &str, delta: i64) -> Value {
        let body = serde_json::json!({"delta": delta, "reason": "test"});
        self.post(&format!("/api/v1/inventory/{sku}/adjustments"), body).await.ok()
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}{path}", self.base.get());
        let mut request = self.http.request(method, &url).bearer_auth(ADMIN_TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("an answer");
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (status, etag) = (response.status(), header("etag"));
        let kind = header("content-type").unwrap_or_default();
        let bytes = response.bytes().await.expect("a whole answer");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, kind, etag, body }
    }
}
