//! What a service answers: to requests in process, without a socket, and over a real one.

use actix_web::App;
use actix_web::dev::Service;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::web::ServiceConfig;
use serde_json::Value;

/// What the routes answered.
#[derive(Debug, Clone)]
pub struct TestResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body: JSON, else a text; null when there is none.
    pub body: Value,
}

/// A request with `headers`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> TestRequest {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = TestRequest::with_uri(path).method(method);
    headers.iter().fold(request, |request, header| request.append_header(*header))
}

/// Sends `request` to what `configure` mounts, in process, and reads the response to its end.
pub async fn send(
    configure: impl FnOnce(&mut ServiceConfig),
    request: TestRequest,
) -> TestResponse {
    let app = init_service(App::new().configure(configure)).await;
    let response = app.call(request.to_request()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    TestResponse::new(status, headers, &read_body(response).await)
}

impl TestResponse {
    /// What a client got over a socket, read to its end.
    pub async fn received(response: reqwest::Response) -> Self {
        let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in response.headers() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Self::new(status, headers, &response.bytes().await.expect("a whole answer"))
    }

    fn new(status: StatusCode, headers: HeaderMap, bytes: &[u8]) -> Self {
        let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
        };
        Self { status, headers, body }
    }

    /// The body of an answer that has to be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }

    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this status and kind, about this field ("" for none).
    #[track_caller]
    pub fn assert_problem(&self, status: u16, kind: &str, field: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["type"], format!("urn:stockloop:problem:{kind}"));
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["field"].as_str().unwrap_or_default(), field, "{self:?}");
    }
}
