//! The engine that both services use whole: outbox, relay, acknowledgements, inbox, alerts, admin.
//!
//! A service adds its domain, its routes and its wiring. `docs/ARCHITECTURE.md` walks one event through
//! these files.

pub mod access;
pub mod admin;
pub mod alerts;
pub mod app;
pub mod audit;
pub mod batch;
pub mod bulk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod db;
pub mod dead_letters;
pub mod details;
pub mod engine;
pub mod env;
pub mod event;
pub mod http;
pub mod ids;
pub mod inbox;
pub mod inventory;
pub mod jobs;
pub mod kafka;
pub mod openapi;
pub mod orders;
pub mod outbox;
pub mod page;
pub mod peer;
pub mod retention;
pub mod retry;
pub mod schema;
pub mod signals;
pub mod stats;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod trace_context;
