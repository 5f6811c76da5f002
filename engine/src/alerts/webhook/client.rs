//! One HTTP call per try, with nothing kept between calls; the caller bounds its time.
//!
//! hyper by itself: it follows no redirect and asks no proxy, and rustls runs on the mail's cryptographic library. `tls`
//! says whose certificates it believes.

use anyhow::{Context, bail, ensure};
use common::http_client::HttpClient;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

/// Calls one address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: HttpClient,
    url: Uri,
}

impl Client {
    /// # Errors
    /// What is wrong with the address; never the address itself, which may hold a secret.
    pub(super) fn new(url: &str, tls: ClientConfig) -> anyhow::Result<Self> {
        let url: Uri = url.parse().context("it is not a URL, such as https://host/path")?;
        let authority = url.authority().context("it has no host; write https://host/path")?;
        ensure!(
            matches!(url.scheme_str(), Some("http" | "https")),
            "it has to begin with https://, or with http:// within your own network"
        );
        ensure!(
            !authority.as_str().contains('@'),
            "it must not contain a user or a password; calls are authenticated by their signature"
        );
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        // Calls are rare: a connection that was kept would be closed on the other side by then.
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { http, url })
    }

    /// Whether calls go through TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// Success is any 2xx; the answer's body is not read.
    ///
    /// # Errors
    /// Why the receiver did not take it, in words for an operator.
    pub(super) async fn post(
        &self,
        headers: [(&'static str, &str); 3],
        body: String,
    ) -> anyhow::Result<()> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("stockloop/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, HeaderValue::from_str(value)?);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = self.http.request(request).await.context("the receiver can't be reached")?;
        verdict(response.status())
    }
}

fn verdict(status: StatusCode) -> anyhow::Result<()> {
    match status {
        ok if ok.is_success() => Ok(()),
        StatusCode::GONE => bail!(
            "HTTP 410: the receiver wants no more calls; fix webhook.url, or set it to \"\" to turn calls off"
        ),
        moved if moved.is_redirection() => bail!(
            "HTTP {}: the receiver redirects, and redirects are not followed; fix webhook.url",
            moved.as_u16()
        ),
        other => bail!("HTTP {other}"),
    }
}
