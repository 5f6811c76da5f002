//! Who acts on changes of events, in the very transaction that makes the change.
//!
//! An order is CONFIRMED because its event was answered SUCCESS: the two must not be told apart by a crash. So a
//! service hands a [`Listener`] to its engine, and the one place through which every transition goes calls it.

use std::fmt;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::EventFacts;
use diesel::QueryResult;

/// A change of an event that its sender may want to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventChange {
    /// PROCESSED: its consumer has its effect.
    Succeeded {
        /// What the consumer said besides, JSON.
        result: Option<String>,
    },
    /// PROCESSED: its consumer handled it, and the answer is no.
    Rejected {
        /// Why, JSON.
        result: Option<String>,
    },
    /// PENDING again after a failed attempt; it goes on by itself.
    Retrying,
    /// EXHAUSTED: a person has to act.
    Exhausted {
        /// What went wrong the last time.
        error: String,
    },
    /// PENDING again, since a person wants it so.
    Retried {
        /// Who.
        by: Option<String>,
        /// Why, if they said so.
        reason: Option<String>,
    },
    /// Still EXHAUSTED, but nobody has to act any more; a late answer still counts.
    Resolved {
        /// Who; nobody, where a newer version made it superfluous.
        by: Option<String>,
        /// Why.
        reason: Option<String>,
    },
}

/// One event and its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventUpdate {
    /// Which event.
    pub event: EventFacts,
    /// What happened to it.
    pub change: EventChange,
}

/// Acts on changes of a service's own events.
pub trait Listener: fmt::Debug + Send + Sync + 'static {
    /// Whether it wants to be told of events of this type; the others cost nothing.
    fn listens_to(&self, event_type: &str) -> bool;

    /// Takes `updates` (never none, in the order in which they happened; an event may come more than once) inside the
    /// transaction of the transitions. The events' open rows are locked by then, so whatever it locks comes after
    /// those. Events that it appends are sent by the relay as any other.
    ///
    /// # Errors
    /// When a statement fails; the transitions are rolled back with it and come again.
    fn on_updates(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        updates: &[EventUpdate],
    ) -> QueryResult<()>;

    /// Told once transitions are committed, its own or others': the moment to wake whoever waits for them.
    fn committed(&self) {}
}
