//! Details of a real HTTP server that stands in for product-service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod breaker;
mod cache;
mod client;
mod route;
pub(crate) mod stub_peer;
