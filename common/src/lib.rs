//! The foundation of the other crates: settings, the two databases, HTTP, telemetry, and the contract of the services.
//!
//! Nothing here runs the loop. The crates build on each other in one direction, which the compiler keeps:
//! `common` ← `engine` (the loop) ← `admin` (the operators' side) ← `service` (a service as a program) ← the services.

pub mod clock;
pub mod config;
pub mod copy_state;
pub mod db;
pub mod details;
pub mod duration;
pub mod env;
pub mod event;
pub mod http;
pub mod http_client;
pub mod ids;
pub mod inventory;
pub mod lanes;
pub mod orders;
pub mod purchases;
pub mod retry;
pub mod schema;
pub mod signals;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod trace_context;
pub mod view_topics;
