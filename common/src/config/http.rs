//! Where a service listens, who may look and act there, and how it asks others.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secrets::redacted;

/// Where a service listens and whom it lets in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port; port 0 takes a free one. Anything but loopback needs `admin_token`, or an operator.
    pub bind: String,
    /// The base of links to this service, in mails for example; empty: `http://` and the bound address.
    pub public_url: String,
    /// A bearer token that may all of `/api/admin`; empty: there is none, and operators sign in.
    #[serde(serialize_with = "redacted")]
    pub admin_token: SecretString,
    /// The bearer token of `/api/v1`; empty: none is asked for.
    #[serde(serialize_with = "redacted")]
    pub api_token: SecretString,
    /// Request bodies at the most, in bytes.
    pub max_body_bytes: usize,
    /// Connections of clients at the most; one takes two files, so a process that may open few has fewer.
    pub max_connections: usize,
    /// How long a client may keep a connection waiting: for a request, for its body, or for taking an answer.
    #[serde(with = "crate::duration")]
    pub client_timeout: Duration,
    /// How long a connection may be idle between two requests.
    #[serde(with = "crate::duration")]
    pub keep_alive: Duration,
    /// How long requests and messages in flight may take to finish when the service stops.
    #[serde(with = "crate::duration")]
    pub shutdown_timeout: Duration,
}

/// Who may look and act as an operator, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// Everybody on this machine is an admin without signing in: for trying out, on loopback only.
    pub open: bool,
    /// After how long without a request a browser has to sign in again.
    #[serde(with = "crate::duration")]
    pub session_idle: Duration,
    /// After how long it has to in any case.
    #[serde(with = "crate::duration")]
    pub session_lifetime: Duration,
    /// How often a sign-in may fail for a name (four times that for an address) before nobody is let try.
    pub login_failures: i32,
    /// For how long: from the first failure on.
    #[serde(with = "crate::duration")]
    pub login_window: Duration,
    /// How long the audit log is kept.
    #[serde(with = "crate::duration")]
    pub audit_retention: Duration,
}

/// How the other service is asked over HTTP: both ask what it knows of an event when an operator looks at that;
/// order-service also asks product-service for details of a product, which alone uses cache and breaker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// Where it listens: `https://` (or `http://` within one's own network) with host and port.
    pub url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Its `http.api_token`, if it has one.
    #[serde(serialize_with = "redacted")]
    pub api_token: SecretString,
    /// How long an answer may take, the connection included; nobody waits longer.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long an answer is given again without asking.
    #[serde(with = "crate::duration")]
    pub cache_ttl: Duration,
    /// Answers that are kept at the most, in bytes.
    pub cache_bytes: u64,
    /// Calls that are looked at: if half of the last ones failed, no more are made for a while (2 at the least).
    pub breaker_calls: usize,
    /// How long that while is.
    #[serde(with = "crate::duration")]
    pub breaker_pause: Duration,
}
