//! Events on their way out, from the change's transaction until their consumer has answered.

mod acks;
mod advance;
mod append;
mod lease;
mod listener;
mod model;
pub mod operate;
mod relay;
pub mod retention;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use acks::{Settlement, Settler};
pub use advance::{Advanced, SettledEvent};
pub use append::{Outbox, SHARDS, partition_of, shard_of};
pub use lease::{Held, release, renew};
pub use listener::{Became, Listener, Turn};
pub use model::{
    EventFacts, EventKind, EventRow, EventType, HistoryRow, NewEvent, OpenRow, SettledRow, Status,
};
pub use operate::OperateError;
pub use relay::{InFlight, Relay, RelayOutcome};
pub use state::{AckOutcome, Happening, Policy, Step, step};
pub use watch::{Watch, WatchOutcome};
