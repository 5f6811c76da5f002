//! The other service, where it is asked directly over HTTP.

mod inbox_view;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, bail};
use common::config::PeerSettings;
use common::http_client::{HttpClient, http_client, root_cause};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

pub use inbox_view::{
    __path_show, InboxRecord, InboxView, InboxViews, KeyInQuarantine, configure, show,
};
pub use request::{PeerError, PeerRequest, PeerResponse};

/// A pool of connections to the other service; cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer {
    http: HttpClient,
    headers: HeaderMap,
    base: Url,
    timeout: Duration,
}

/// Why an answer's body was not read.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection broke off.
    #[error("the answer broke off")]
    Connection(#[source] PeerError),
    /// There was too much of it.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Peer {
    /// The peer that `settings` name; nothing is connected yet.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn new(settings: &PeerSettings) -> anyhow::Result<Self> {
        let PeerSettings { url, ca_file, api_token, timeout, .. } = settings;
        Self::at("peer", url, ca_file, api_token, *timeout)
    }

    /// Another service at `url`, certified by the authorities in `ca_file`; `section` of the settings says so.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn at(
        section: &str,
        url: &str,
        ca_file: &str,
        token: &SecretString,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let (base, headers) = (base_of(section, url)?, headers(section, token)?);
        let http = http_client(section, base.as_str(), ca_file)?;
        Ok(Self { http, headers, base, timeout })
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Where it is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A GET of `path` (which begins with a slash and is escaped) with `query`.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> PeerRequest {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.request(Method::GET, url)
    }

    /// A POST to `path`, which begins with a slash and is escaped.
    pub fn post(&self, path: &str) -> PeerRequest {
        self.request(Method::POST, self.address(path))
    }

    /// A PUT to `path`, which begins with a slash and is escaped.
    pub fn put(&self, path: &str) -> PeerRequest {
        self.request(Method::PUT, self.address(path))
    }

    fn request(&self, method: Method, url: Url) -> PeerRequest {
        let (http, headers) = (self.http.clone(), self.headers.clone());
        PeerRequest { http, method, url, headers, body: Ok(Bytes::new()), timeout: None }
    }

    fn address(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }
}

/// Sends a request, and reads the whole answer if it comes within `timeout` and has no more than `max` bytes.
///
/// # Errors
/// What went wrong, in words that hold no address.
pub async fn exchange(
    request: PeerRequest,
    timeout: Duration,
    max: usize,
) -> Result<(StatusCode, Vec<u8>), String> {
    let response = request.timeout(timeout).send().await.map_err(|error| error.root())?;
    let status = response.status();
    let body = body_of(response, max).await.map_err(|error| root_cause(&error))?;
    Ok((status, body))
}

/// The body, unless it is larger than `max`; what its header says of its size needn't be true.
///
/// # Errors
/// When the connection breaks off, or the body is too large.
pub async fn body_of(mut response: PeerResponse, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Connection)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge(max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn headers(section: &str, token: &SecretString) -> anyhow::Result<HeaderMap> {
    let mut headers =
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let token = token.expose_secret();
    if !token.is_empty() {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).with_context(|| {
            format!("{section}.api_token holds characters that no HTTP header can carry")
        })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

fn base_of(section: &str, text: &str) -> anyhow::Result<Url> {
    // Not the text itself: whoever wrote a password into it should not find it in the log.
    let url = Url::parse(text)
        .with_context(|| format!("{section}.url is not a URL, such as http://127.0.0.1:8081"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{section}.url has to begin with https://, or with http:// within your own network");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("{section}.url must not hold a user or a password; the token is {section}.api_token");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("{section}.url must not hold ? or #; it is the part before /api/v1");
    }
    Ok(url)
}
