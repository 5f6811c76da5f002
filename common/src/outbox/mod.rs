//! Events on their way out, from the change's transaction until their consumer has answered.

mod append;
mod model;
pub mod operate;

pub use append::{Outbox, SHARDS, partition_of, shard_of};
pub use model::{EventKind, EventRow, EventType, NewEvent, OpenRow, Status};
