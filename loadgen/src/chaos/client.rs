//! A client of both services: it keeps its connections as long as they are good, and says of each request what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde_json::Value;
use tokio::time::timeout;

use crate::connection::{Connection, connect};

/// What operators' requests carry; the services are told of it.
pub(super) const TOKEN: &str = "the-token-of-the-trial";

/// How long an answer is waited for, in ms.
pub(super) const PATIENCE_MS: u64 = 5_000;

const PATIENCE: Duration = Duration::from_millis(PATIENCE_MS);

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Value,
    /// The `Idempotency-Key`.
    pub(super) key: Option<String>,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Nobody took it.
    NotSent,
    /// No whole answer came.
    Lost,
    Whole {
        status: u16,
        /// Null where it is no JSON.
        body: Value,
    },
}

/// The connections of a client, one to each address at the most.
#[derive(Default)]
pub(super) struct Client {
    open: BTreeMap<String, Connection>,
}

impl Client {
    /// Asks the service at `address`, once.
    pub(super) async fn ask(&mut self, address: &str, asked: &Asked) -> Reply {
        let open = self.open.remove(address).filter(|open| !open.is_closed());
        let mut connection = match open {
            Some(open) => open,
            None => match timeout(PATIENCE, connect(address)).await {
                Ok(Ok(new)) => new,
                _ => return Reply::NotSent,
            },
        };
        match timeout(PATIENCE, exchange(&mut connection, address, asked)).await {
            Ok(Ok(reply)) => {
                self.open.insert(address.to_owned(), connection);
                reply
            }
            _ => Reply::Lost,
        }
    }
}

async fn exchange(connection: &mut Connection, address: &str, asked: &Asked) -> Result<Reply> {
    let Asked { method, path, body, key } = asked;
    let mut request = Request::builder()
        .method(method)
        .uri(path.as_str())
        .header(HOST, address)
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key.as_str());
    }
    let bytes = match body {
        Value::Null => Bytes::new(),
        body => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(body.to_string())
        }
    };
    connection.ready().await?;
    let response = connection.send_request(request.body(Full::new(bytes))?).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(Reply::Whole { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
}
