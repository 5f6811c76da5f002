//! HTTP to a service: hyper by itself asks no proxy and follows no redirect, so nobody else sees the token; and
//! rustls runs on the cryptographic library that the mail brings.

use std::sync::Arc;
use std::time::Duration;

use common::http_client::{HttpClient, IDLE, root_cause};
use common::tls::client_config;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use super::error::CommandError;
use super::target::variable;

/// Whose certificates are believed, where it is set: the authorities in this file.
const CA_FILE: &str = "STOCKLOOP_CA_FILE";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the response, and for each piece of its body.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends requests with a token, or with none.
pub(crate) struct Transport {
    http: HttpClient,
    authorization: Option<HeaderValue>,
    /// The service's address, for messages.
    base: Arc<str>,
    /// The variable that holds it, for messages.
    url_variable: &'static str,
}

/// A response, whose body is still to be read.
pub(crate) struct ServiceResponse {
    response: Response<Incoming>,
    base: Arc<str>,
}

impl Transport {
    pub(crate) fn new(
        base: &Url,
        token: Option<&SecretString>,
        url_variable: &'static str,
    ) -> anyhow::Result<Self> {
        let authorization = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let authorization = authorization.transpose().map_err(|_| {
            CommandError::Usage("the token contains characters that can't be sent".to_owned())
        })?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let ca_file = variable(CA_FILE).unwrap_or_default();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(CA_FILE, &ca_file)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            http,
            authorization,
            base: base.as_str().trim_end_matches('/').into(),
            url_variable,
        })
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> anyhow::Result<ServiceResponse> {
        let json = body.map(|body| Bytes::from(body.to_string()));
        self.send_keyed(method, url, json, None).await
    }

    /// The same with a body that is JSON already, and an `Idempotency-Key`.
    pub(crate) async fn send_keyed(
        &self,
        method: Method,
        url: &Url,
        json: Option<Bytes>,
        key: Option<&str>,
    ) -> anyhow::Result<ServiceResponse> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(USER_AGENT, concat!("stockloop/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(json.unwrap_or_default()))?;
        match timeout(READ_TIMEOUT, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(ServiceResponse { response, base: Arc::clone(&self.base) }),
            Ok(Err(error)) if error.is_connect() => Err(CommandError::Unreachable {
                base: self.base.to_string(),
                reason: root_cause(&error),
                variable: self.url_variable,
            }
            .into()),
            Ok(Err(error)) => Err(connection_lost(&self.base, root_cause(&error))),
            Err(_elapsed) => Err(timed_out(&self.base)),
        }
    }
}

impl ServiceResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; none at its end. A body that breaks off is an error.
    pub(super) async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match timeout(READ_TIMEOUT, self.response.body_mut().frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => {
                    return Err(connection_lost(&self.base, root_cause(&error)));
                }
                Err(_elapsed) => return Err(timed_out(&self.base)),
            }
        }
    }

    /// The whole body.
    pub(crate) async fn text(mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn timed_out(base: &str) -> anyhow::Error {
    connection_lost(base, format!("no response within {} s", READ_TIMEOUT.as_secs()))
}

fn connection_lost(base: &str, reason: String) -> anyhow::Error {
    CommandError::ConnectionLost { base: base.to_owned(), reason }.into()
}
