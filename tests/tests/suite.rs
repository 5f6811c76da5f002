//! The integration tests, in one binary so that they link once and share their real parts.
//!
//! What lies where:
//!
//! - `system/` is no test: both services with all that they stand on, their clients, and what their databases say;
//! - `the_loop`, `instances`, `consumers`, `log`, `debezium`, `poison`, `blame`, `broker`, `crashes`, `outages`,
//!   `pooler`, `stopping`, `views` and `orders/` try the loop: as people use it, on two instances, with messages that nobody
//!   should send, and with everything that can be killed, lost, taken away or put between;
//! - `hostile/` has clients that nobody wants;
//! - `flink` holds the views that others keep of the topics against what the services say;
//! - `check/` tries the judge, `stockloop-loadgen check`, on planted damage;
//! - `tls` has everything go through TLS, and shows the services certificates that do not fit;
//! - `trust` tries messages that nobody signed, and keys that are changed;
//! - `security` asks each route of a whole service whom it answers to, and holds docs/SECURITY.md against the tests;
//! - `users`, `admin_cli`, `commands`, `import_export`, `till`, `browser/` and `demo` try what people work with: the
//!   programs' command lines and the operators' pages, in a real Chromium;
//! - `openapi`, `asyncapi`, `schemas/`, `monitoring`, `logs` and `tracing` hold what the services say of themselves
//!   against what they do;
//! - `harness_tests/` are tests of the real parts in `tests/src` themselves.
//!
//! A folder has a fixture of its own beside its tests; a test that needs none but the system is one file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says what went wrong"
)]

mod admin_cli;
mod asyncapi;
mod blame;
mod bootstrap;
mod broker;
mod browser;
mod check;
mod commands;
mod consumers;
mod crashes;
mod debezium;
mod demo;
mod flink;
mod harness_tests;
mod hostile;
mod import_export;
mod instances;
mod log;
mod logs;
mod measures;
mod monitoring;
mod openapi;
mod orders;
mod outages;
mod poison;
mod pooler;
mod proof;
mod replay;
mod restored;
mod schemas;
mod security;
mod stopping;
mod system;
mod the_loop;
mod till;
mod tls;
mod tracing;
mod trust;
mod users;
mod views;
