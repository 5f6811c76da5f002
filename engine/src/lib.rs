//! The loop: outbox, relay, acknowledgements, inbox, alerts.
//!
//! [`Engine`] holds the parts of one service's loop, made once and complete; [`Loops`] is what of them runs in the
//! background. A service takes part through its [`Hooks`]: whether it sends, what it does with what it receives, and who
//! acts on what becomes of its own events. Most services don't call this crate's `open` themselves: the crate `service`
//! does, and its documentation shows a whole service.
//!
//! ```text
//! a change ─ outbox::Outbox::append ─> PENDING ─ outbox::Relay ─> SENT ─ kafka ─> inbox::Inbox ─ Handler::apply
//!                                                                                     │ acks
//!     Listener::on_updates <─ PROCESSED, PENDING again, or EXHAUSTED + alert <─ outbox::Settler
//! ```
//!
//! [`outbox`] decides about every transition in one pure function and writes all of its effects in one transaction;
//! [`outbox::OverdueMonitor`] finds what nobody reports. [`alerts`] bring what needs a person to a person, [`bulk`] acts
//! on many events at once, [`stats`] counts beside the requests, [`retention`] forgets in small steps.

pub mod alerts;
pub mod audit;
pub mod batch;
pub mod bootstrap;
pub mod bulk;
pub mod consumers;
pub mod copies;
pub mod counters;
pub mod dead_letters;
mod engine;
pub mod inbox;
pub mod kafka;
mod loops;
pub mod lost;
pub mod outbox;
pub mod peer;
pub mod refusals;
pub mod restored;
pub mod resync;
pub mod retention;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod sqlstate_tests;
pub mod stats;
pub mod verify;
pub mod views;
pub mod worker;

pub use engine::{Engine, HookContext, Hooks, open_database};
pub use loops::{Loops, RunningLoops};
