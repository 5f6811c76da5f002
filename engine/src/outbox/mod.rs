//! Events on their way out, from the change's transaction until their consumer has answered.

mod acks;
mod advance;
mod append;
mod class;
mod found;
mod lease;
mod listener;
mod model;
pub mod operate;
pub mod pause;
mod relay;
pub mod search;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use acks::{Settlement, Settler, check_answers};
pub use advance::{Advanced, GaveUp, Heard, SettledEvent};
pub use append::{Outbox, SHARDS, partition_of, shard_of};
pub use class::{NO_ANSWER, UNTOLD, error_class};
pub use found::{Found, LastError, SettledEventRow, class_or_now, last_errors};
pub use lease::{Held, Instance, instances, release, renew};
pub use listener::{Became, Listener, Turn};
pub use model::{HistoryRow, OpenRow, SettledRow};
pub use operate::OperateError;
pub use relay::{InFlight, Relay, RelayOutcome, RelaySettings};
pub use state::{AckOutcome, Happening, Policy, Step, step};
pub use watch::{Watch, WatchOutcome};
