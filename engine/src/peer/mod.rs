//! The other service, where it is asked directly over HTTP.

mod inbox_view;

use std::time::Duration;

use anyhow::{Context, bail};
use common::config::PeerSettings;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

pub use inbox_view::{
    __path_show, InboxRecord, InboxView, InboxViews, KeyInQuarantine, configure, show,
};

/// Below the 5 s after which a service closes what is idle, so that no call meets a closing connection.
const IDLE: Duration = Duration::from_secs(4);

/// A pool of connections to the other service; cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer {
    http: Client,
    base: Url,
    timeout: Duration,
}

/// Why an answer's body was not read.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection broke off.
    #[error("the answer broke off")]
    Connection(#[source] reqwest::Error),
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
        Self::at("peer", &settings.url, &settings.api_token, settings.timeout)
    }

    /// Another service at `url`; `section` of the settings says so.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn at(
        section: &str,
        url: &str,
        token: &SecretString,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let base = base_of(section, url)?;
        // No redirects and no proxy: the token is for this peer, and so is the time.
        let http = Client::builder()
            .default_headers(headers(section, token)?)
            .redirect(Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .build()
            .context("the HTTP client for the other service can't be made")?;
        Ok(Self { http, base, timeout })
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
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.get(url)
    }

    /// A POST to `path`, which begins with a slash and is escaped.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.address(path))
    }

    /// A PUT to `path`, which begins with a slash and is escaped.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.http.put(self.address(path))
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
    request: RequestBuilder,
    timeout: Duration,
    max: usize,
) -> Result<(StatusCode, Vec<u8>), String> {
    let response = request.timeout(timeout).send().await;
    let response = response.map_err(|error| error.without_url().to_string())?;
    let status = response.status();
    let body = body_of(response, max).await.map_err(|error| error.to_string())?;
    Ok((status, body))
}

/// The body, unless it is larger than `max`; what its header says of its size needn't be true.
///
/// # Errors
/// When the connection breaks off, or the body is too large.
pub async fn body_of(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
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
    if url.scheme() != "http" {
        bail!("{section}.url has to begin with http://; the other service is asked without TLS");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("{section}.url must not hold a user or a password; the token is {section}.api_token");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("{section}.url must not hold ? or #; it is the part before /api/v1");
    }
    Ok(url)
}
