//! The integration tests, in one binary so that they link once and share their real parts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says what went wrong"
)]

mod admin_cli;
mod asyncapi;
mod browser;
mod crashes;
mod demo;
mod harness;
mod logs;
mod monitoring;
mod openapi;
mod orders;
mod outages;
mod poison;
mod stage;
mod stopping;
mod the_loop;
mod tracing;
mod users;
