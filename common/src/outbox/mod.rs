//! Events on their way out, from the change's transaction until their consumer has answered.

mod acks;
mod advance;
mod append;
mod class;
mod lease;
mod listener;
mod model;
pub mod operate;
pub mod pause;
mod relay;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use acks::{Settlement, Settler, check_answers};
pub use advance::{Advanced, GaveUp, Heard, SettledEvent};
pub use append::{Outbox, SHARDS, partition_of, shard_of};
pub use class::{NO_ANSWER, UNTOLD, error_class};
pub(crate) use lease::database_now;
pub use lease::{Held, Instance, instances, release, renew};
pub use listener::{Became, Listener, Turn};
pub use model::{
    EventFacts, EventKind, EventRow, EventType, HistoryRow, NewEvent, OpenRow, SettledRow, Status,
};
pub use operate::OperateError;
pub use relay::{InFlight, Relay, RelayOutcome};
pub use state::{AckOutcome, Happening, Policy, Step, step};
pub use watch::{Watch, WatchOutcome};
