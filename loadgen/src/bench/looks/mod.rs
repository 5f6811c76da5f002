//! How far events are, as it shows from outside: by the service's [`counting`] while something is measured, by the [`events`]
//! themselves before and after it, and by their [`arrivals`] on the topic.

mod arrivals;
mod counting;
mod events;

pub(super) use self::arrivals::Arrivals;
pub(super) use self::counting::{Counted, Counting};
pub(super) use self::events::{Passage, Settled, passages, sent_per_s, settle, wait_until_placed};
