//! A connection over HTTP/1.1: hyper's own, without a pool, redirects or cookies.

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends one request after the other.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Connects to whoever listens at `address`, as `host:port`; within a runtime, which carries the connection.
pub(crate) async fn connect(address: &str) -> Result<Connection> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("the service at {address} can't be reached"))?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(TokioIo::new(stream)).await?;
    // How it ended is what its last request is told.
    tokio::spawn(async move { drop(connection.await) });
    Ok(requests)
}
