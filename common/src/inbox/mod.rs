//! Events that come in: each is applied once, answered each time.

mod apply;
mod consumer;
pub mod dead_letter;
mod model;
pub mod quarantine;
#[cfg(test)]
mod tests;

pub use apply::{Applied, Inbox};
pub use consumer::{InboxConsumer, MAX_RIDDLES};
pub(crate) use dead_letter::of_event as dead_letters_of;
pub use dead_letter::{DeadLetter, bury};
pub use model::{Answer, ApplyError, Detail, Handler, Incoming};
