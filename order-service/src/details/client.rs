//! Asks product-service over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use common::config::PeerSettings;
use common::details::{MAX_BYTES, ProductDetails};
use common::http::Problem;
use common::inventory::Sku;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use secrecy::ExposeSecret;

use super::Fault;

/// Below the 5 s after which product-service closes what is idle, so that no call meets a closing connection.
const IDLE: Duration = Duration::from_secs(4);

/// What product-service answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// None: it has no such product.
    pub(super) details: Option<ProductDetails>,
    /// The size of the answer.
    pub(super) bytes: usize,
}

/// A pool of connections to product-service.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    pub(super) fn new(settings: &PeerSettings) -> anyhow::Result<Self> {
        let base = base_of(&settings.url)?;
        // No redirects and no proxy: the token is for this peer, and so is the time.
        let http = reqwest::Client::builder()
            .default_headers(headers(settings)?)
            .redirect(Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .build()
            .context("the HTTP client for product-service can't be made")?;
        Ok(Self { http, base })
    }

    pub(super) async fn fetch(&self, sku: &Sku) -> Result<Answer, Fault> {
        let url = format!("{}/api/v1/inventory/{}/details", self.base, sku.path_segment());
        let response = self.http.get(url).send().await.map_err(Fault::Connection)?;
        match response.status().as_u16() {
            200 => known(sku, &body_of(response).await?),
            404 => unknown(&body_of(response).await?),
            status => Err(Fault::Status(status)),
        }
    }
}

fn known(sku: &Sku, body: &[u8]) -> Result<Answer, Fault> {
    let details: ProductDetails = serde_json::from_slice(body).map_err(Fault::Unreadable)?;
    if details.sku != *sku {
        return Err(Fault::Mistaken);
    }
    Ok(Answer { details: Some(details), bytes: body.len() })
}

/// Only the owner's own 404 says that there is no such product; a wrong address or a proxy has a 404 too.
fn unknown(body: &[u8]) -> Result<Answer, Fault> {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.field.as_deref() == Some("sku") => {
            Ok(Answer { details: None, bytes: 0 })
        }
        _ => Err(Fault::Status(404)),
    }
}

/// The body, unless it is too large; what its header says of its size needn't be true.
async fn body_of(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Fault::Connection)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn headers(settings: &PeerSettings) -> anyhow::Result<HeaderMap> {
    let mut headers =
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let token = settings.api_token.expose_secret();
    if !token.is_empty() {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("peer.api_token holds characters that no HTTP header can carry")?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

fn base_of(text: &str) -> anyhow::Result<String> {
    // Not the text itself: whoever wrote a password into it should not find it in the log.
    let url = Url::parse(text).context("peer.url is not a URL, such as http://127.0.0.1:8081")?;
    if url.scheme() != "http" {
        bail!("peer.url has to begin with http://; product-service is asked without TLS");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("peer.url must not hold a user or a password; the token is peer.api_token");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("peer.url must not hold ? or #; it is the part before /api/v1");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
