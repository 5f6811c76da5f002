//! Asks a part over HTTP: one connection, which is kept, and one request at a time.
//!
//! It is hyper's connection itself. Client and service share the processors, and a pool of connections, redirects or
//! cookies, which are not needed, would be paid from the service's share.

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};

use crate::connection::{Connection, connect};

/// Where a part listens.
pub(in crate::bench) struct Target {
    /// Host and port.
    address: String,
    host: HeaderValue,
}

impl Target {
    /// Reads `http://host:port`.
    pub(in crate::bench) fn parse(url: &str) -> Result<Self> {
        let not_understood = || format!("the URL {url} is not understood: write http://host:port");
        let uri: Uri = url.parse().with_context(not_understood)?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        let host = host.with_context(not_understood)?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(&address).with_context(not_understood)?;
        Ok(Self { address, host })
    }
}

/// A client of a part.
pub(in crate::bench) struct Client {
    requests: Connection,
    host: HeaderValue,
}

impl Client {
    /// One that is connected.
    pub(in crate::bench) async fn connect(target: &Target) -> Result<Self> {
        let Target { address, host } = target;
        Ok(Self { requests: connect(address).await?, host: host.clone() })
    }

    /// Reads what is at `path`.
    pub(in crate::bench) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let request =
            Request::get(path).header(HOST, self.host.clone()).body(Full::new(Bytes::new()))?;
        self.ask(&format!("GET {path}"), request).await
    }

    /// Sends a JSON document to `path`.
    pub(in crate::bench) async fn post(&mut self, path: &str, body: String) -> Result<Bytes> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a JSON document, or nothing.
    pub(super) async fn send(&mut self, method: Method, path: &str, body: String) -> Result<Bytes> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(Bytes::from(body)))?;
        self.ask(&what, request).await
    }

    /// The body of the answer, read to its end; one that is not 2xx is an error with its words.
    async fn ask(&mut self, what: &str, request: Request<Full<Bytes>>) -> Result<Bytes> {
        let lost = || format!("the connection was lost at {what}");
        self.requests.ready().await.with_context(lost)?;
        let response = self.requests.send_request(request).await.with_context(lost)?;
        let status = response.status();
        let answer = response.into_body().collect().await.with_context(lost)?.to_bytes();
        ensure!(status.is_success(), "{what} was answered {status}: {}", words(&answer));
        Ok(answer)
    }
}

/// The beginning of an answer, for messages.
pub(in crate::bench) fn words(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_host_and_may_leave_out_the_port() {
        let address = |url| Target::parse(url).ok().map(|target| target.address);
        assert_eq!(address("http://127.0.0.1:8081/").as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(address("http://[::1]").as_deref(), Some("[::1]:80"));
        for wrong in ["127.0.0.1:8081", "https://127.0.0.1:8081", "/api", ""] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
