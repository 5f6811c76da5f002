//! Events that come in: each is applied once, answered each time.

mod ack_routes;
mod answers;
mod apply;
mod consumer;
mod evidence;
mod model;
pub mod quarantine;
mod snapshots;
#[cfg(test)]
mod tests;

pub use ack_routes::{AckRoutes, AckSender};
pub(crate) use answers::{ACK_MESSAGE_BYTES, AckPart, AckPublisher, parts_of};
pub use apply::{Applied, Inbox};
pub use consumer::{EventSource, InboxConsumer};
pub use evidence::Control;
pub use model::{CopyVersion, Detail, Handler, HandlerOutcome};
pub use snapshots::{
    AppliedSnapshots, Newest, Snapshot, SnapshotCopy, apply_snapshots, newest_of, outcomes_of,
};
