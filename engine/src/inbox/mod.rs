//! Events that come in: each is applied once, answered each time.

mod ack_routes;
mod apply;
mod consumer;
mod evidence;
mod model;
pub mod quarantine;
mod snapshots;
#[cfg(test)]
mod tests;

pub use ack_routes::AckRoutes;
pub use apply::{Applied, Inbox};
pub(crate) use consumer::ACK_MESSAGE_BYTES;
pub use consumer::InboxConsumer;
pub use evidence::Control;
pub use model::{CopyVersion, Detail, Handler, HandlerOutcome};
pub use snapshots::{AppliedSnapshots, Snapshot, SnapshotCopy, apply_snapshots};
