//! What the integration tests stand on: real PostgreSQL, real Apache Kafka, a real mail server, a real
//! browser, and the services as child processes that can be killed at any moment.
//!
//! A test asks [`real`] for a part and returns early when it gets `None`; with
//! `STOCKLOOP_REQUIRE_REAL=1` a missing part is a failure instead. Nothing a test starts outlives
//! the test process, however that ends ([`process`]).
//!
//! ```no_run
//! use stockloop_tests::real;
//!
//! fn a_test() {
//!     let Some(postgres) = real::postgres() else { return };
//!     let url = postgres.database("orders");
//! }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says what went wrong"
)]

pub mod browser;
pub mod database;
pub mod http;
pub mod kafka;
mod parts;
pub mod poll;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod real;
pub mod routes;
pub mod schema;
mod scratch;
pub mod smtp;

pub use database::TestDatabase;
pub use routes::routes_of;
