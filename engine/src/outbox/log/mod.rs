//! Events from PostgreSQL's log (WAL) instead of a query for each page: what commits is streamed to the relay.
//!
//! The log is a short way, and the table stays the truth. What the log brings is sent and noted as if it had been read
//! from `outbox_pending`; whatever it does not bring, or what can't be sent at once, is found there by the relay's own
//! reads. So a slot that is lost, or a log that can't be read, costs speed and nothing else.
//!
//! The two do not send the same event, because *marks* divide them: once a second, the transactions that have ended are
//! written into the log itself. When a mark comes out of it, all that those appended came before; when that is dealt with,
//! what of them is still PENDING is the table's. What comes before the first mark of a session is the table's, too; behind
//! it, the relay's next read says with its snapshot where the table ends and the log begins.

mod decode;
mod feed;
mod marks;
mod reader;
mod slot;

pub(super) use feed::{Ended, LogFeed, Place, TablesShare, Taken};
pub use reader::{LogError, LogReader};
pub use slot::{SlotState, Unused, drop_unused_slot, slot_state};

#[cfg(test)]
mod tests;
