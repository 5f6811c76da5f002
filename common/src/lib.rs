//! The engine that both services use whole: outbox, relay, acknowledgements, inbox, alerts, admin.
//!
//! A service adds its domain, its routes and its wiring. `docs/ARCHITECTURE.md` walks one event through
//! these files.

pub mod admin;
pub mod clock;
pub mod config;
pub mod db;
pub mod env;
pub mod http;
pub mod ids;
pub mod inbox;
pub mod outbox;
pub mod schema;
pub mod telemetry;
