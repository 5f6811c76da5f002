//! The loop: outbox, relay, acknowledgements, inbox, alerts.

pub mod alerts;
pub mod audit;
pub mod batch;
pub mod bulk;
pub mod counters;
pub mod dead_letters;
mod engine;
pub mod inbox;
pub mod kafka;
pub mod outbox;
pub mod peer;
pub mod retention;
#[cfg(test)]
mod schema_tests;
pub mod stats;
mod work;
pub mod worker;

pub use engine::{Base, Engine, Hooks, open_database};
pub use work::{RunningWork, Work};
