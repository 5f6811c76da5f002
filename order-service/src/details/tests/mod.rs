//! Details of a real HTTP server that stands in for product-service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod asking;
mod breaking;
mod keeping;
pub(crate) mod peer;
mod route;
