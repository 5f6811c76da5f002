//! The way to a service: hyper by itself asks no proxy and follows no redirect, so nobody else sees the token; and
//! rustls runs on the cryptographic library that the mail brings.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::Url;
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::timeout;

use super::fault::Fault;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Without a word for so long, a service is given up.
const SILENT_FOR: Duration = Duration::from_secs(60);

type Http = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends requests with a token, or with none.
pub(super) struct Transport {
    http: Http,
    authorization: Option<HeaderValue>,
    /// The service's address, for messages.
    base: Arc<str>,
    /// Which variable says where it is, for messages.
    url_variable: &'static str,
}

/// An answer, whose body is still to be read.
pub(super) struct Answer {
    response: Response<Incoming>,
    base: Arc<str>,
}

impl Transport {
    pub(super) fn new(
        base: &Url,
        token: Option<&SecretString>,
        url_variable: &'static str,
    ) -> anyhow::Result<Self> {
        let authorization = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let authorization = authorization
            .transpose()
            .map_err(|_| Fault::Usage("the token holds what no token can".to_owned()))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(Arc::new(ring::default_provider()))
            .context("TLS can't be set up")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http =
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
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
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(USER_AGENT, concat!("stockloop/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        match timeout(SILENT_FOR, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(Answer { response, base: Arc::clone(&self.base) }),
            Ok(Err(error)) if error.is_connect() => Err(Fault::Unreachable {
                base: self.base.to_string(),
                reason: deepest(&error),
                variable: self.url_variable,
            }
            .into()),
            Ok(Err(error)) => Err(broken_off(&self.base, deepest(&error))),
            Err(_elapsed) => Err(silent(&self.base)),
        }
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body; none at its end. A body that breaks off is an error.
    pub(super) async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match timeout(SILENT_FOR, self.response.body_mut().frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => return Err(broken_off(&self.base, deepest(&error))),
                Err(_elapsed) => return Err(silent(&self.base)),
            }
        }
    }

    /// The whole body.
    pub(super) async fn text(mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn silent(base: &str) -> anyhow::Error {
    broken_off(base, format!("not a word for {} s", SILENT_FOR.as_secs()))
}

fn broken_off(base: &str, reason: String) -> anyhow::Error {
    Fault::BrokenOff { base: base.to_owned(), reason }.into()
}

/// The cause of all: what is above it only says that a request failed.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
