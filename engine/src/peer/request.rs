//! One request to the other service, and what it answers.

use std::time::Duration;

use common::http_client::{HttpClient, root_cause};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use reqwest::Url;
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// A request that is not sent yet.
#[derive(Debug)]
pub struct PeerRequest {
    pub(super) http: HttpClient,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Result<Bytes, serde_json::Error>,
    pub(super) timeout: Option<Duration>,
}

/// An answer, whose body is still to be read.
#[derive(Debug)]
pub struct PeerResponse {
    response: Response<Incoming>,
    limit: Option<Limit>,
}

/// How long all of an answer may take.
#[derive(Debug, Clone, Copy)]
struct Limit {
    time: Duration,
    until: Instant,
}

/// Why there is no answer, or none to its end.
#[derive(Debug, Error)]
pub enum PeerError {
    /// What was to be sent can't be written.
    #[error("the request can't be written")]
    Unwritten(#[from] serde_json::Error),
    /// The address is none that can be asked.
    #[error("the address can't be asked")]
    Address(#[from] hyper::http::Error),
    /// No connection, or one that broke off before the answer.
    #[error("the connection failed")]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// One that broke off in the middle of it.
    #[error("the answer broke off")]
    BrokeOff(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl PeerRequest {
    /// The same with `body` as JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).map(Bytes::from);
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// The same, whose whole answer has to be there in `time`.
    #[must_use]
    pub fn timeout(self, time: Duration) -> Self {
        Self { timeout: Some(time), ..self }
    }

    /// Sends it, and waits until an answer begins.
    ///
    /// # Errors
    /// Why none does.
    pub async fn send(self) -> Result<PeerResponse, PeerError> {
        let Self { http, method, url, headers, body, timeout } = self;
        let request = Request::builder().method(method).uri(url.as_str());
        let mut request = request.body(Full::new(body?))?;
        *request.headers_mut() = headers;
        let limit = timeout.map(|time| Limit { time, until: Instant::now() + time });
        let response = within(limit, http.request(request)).await??;
        Ok(PeerResponse { response, limit })
    }
}

impl PeerResponse {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// Why there is no more of it.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            let Some(frame) = within(self.limit, self.response.body_mut().frame()).await? else {
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl PeerError {
    /// What a person can act on.
    pub fn root(&self) -> String {
        root_cause(self)
    }
}

async fn within<T>(limit: Option<Limit>, work: impl Future<Output = T>) -> Result<T, PeerError> {
    match limit {
        None => Ok(work.await),
        Some(Limit { time, until }) => {
            timeout_at(until, work).await.map_err(|_elapsed| PeerError::Timeout(time))
        }
    }
}
