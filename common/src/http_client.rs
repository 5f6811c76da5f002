//! HTTP to other services: hyper by itself asks no proxy and follows no redirect, so nobody else sees a token; and rustls
//! runs on the cryptographic library that the mail brings.

use std::error::Error;
use std::time::Duration;

use anyhow::ensure;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::tls::client_config;

/// How long a client keeps an idle connection: less than the 5 s after which a service closes it (`http.keep_alive`), so that
/// no request meets a closing connection.
pub const IDLE: Duration = Duration::from_secs(4);

/// A pool of connections; cheap to clone.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client for `url`, which `section` of the settings names; with `https://` it believes the authorities in `ca_file`, or
/// the usual public ones where that is empty.
///
/// # Errors
/// What is wrong with the file, or that it is named where nothing would be encrypted.
pub fn http_client(section: &str, url: &str, ca_file: &str) -> anyhow::Result<HttpClient> {
    let setting = format!("{section}.ca_file");
    ensure!(
        ca_file.is_empty() || url.starts_with("https://"),
        "{setting} is set, but the address in {section} does not begin with https://: nothing would be encrypted"
    );
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(client_config(&setting, ca_file)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector))
}

/// The last cause of a request that failed: what is above it only says that it did.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}
