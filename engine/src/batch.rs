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
    /// Every event fails, also one that passed before.
    #[error("nothing can be applied now, not even what passed before: {0}")]
    World(String),
    /// The handler itself is flawed.
    #[error("the handler {0}; that is a flaw of this service")]
    Flawed(String),
}

impl BatchError {
    /// Whether single events may be blamed, so that the batch is to be bisected.
    pub fn blames_data(&self, blame_unknown: bool) -> bool {
        match self.fault() {
            Fault::Data => true,
            Fault::Unknown => blame_unknown,
            Fault::World => false,
        }
    }

    /// Whether an event, the world, or something unknown is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Query(error) => Fault::of_query(error),
            Self::Db(error) => Fault::of(error),
            Self::Raced | Self::World(_) => Fault::World,
            Self::Flawed(_) => Fault::Data,
        }
    }
}
