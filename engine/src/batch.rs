//! What can go wrong with a batch of messages, and whose fault it is: both the inbox and the settling of answers
//! take batches in one transaction each, and look for the bad message only where the data is to blame.

use common::db::{DbError, Fault};
use thiserror::Error;

/// Why a batch of messages was not taken; nothing of it is kept.
#[derive(Debug, Error)]
pub enum BatchError {
    /// A statement failed: the engine finds out whose fault it was.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Another consumer applies the same events at this moment: the batch is to be repeated.
    #[error("another consumer applied some of the same events at the same time")]
    Raced,
    /// Nothing of a batch passes, and nothing shows that its events are to blame.
    #[error("nothing passes now: {0}")]
    World(String),
    /// The handler itself is flawed.
    #[error("the handler {0}; that is a flaw of this service")]
    Flawed(String),
}

impl BatchError {
    /// Whether the batch is to be bisected: the data is to blame, or, where that `repeats`, single data may be.
    pub fn calls_for_bisection(&self, repeats: bool) -> bool {
        let fault = self.fault();
        fault.is_of_data() || (repeats && fault.may_be_of_one())
    }

    /// What an event that fails alone is suspected of: a handler that is flawed may be so for everything.
    pub fn suspicion(&self) -> Fault {
        match self {
            Self::Flawed(_) => Fault::Unknown,
            _ => self.fault(),
        }
    }

    /// Whose fault it is, as far as the error says so.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Query(error) => Fault::of_query(error),
            Self::Db(error) => Fault::of(error),
            Self::Raced | Self::World(_) => Fault::World,
            Self::Flawed(_) => Fault::Data,
        }
    }
}
