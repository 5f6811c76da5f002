//! What comes in: events as read from the wire, and the answers to them.

use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::db::{Conn, DbError, Fault};
use crate::ids::EventId;
use crate::peer::CopyVersion;

/// An event as it came over the topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Its id: one effect per id.
    pub id: EventId,
    /// The `ce_type`.
    pub event_type: String,
    /// What it is about.
    pub key: String,
    /// The epoch of the database that it comes from.
    pub epoch: i64,
    /// Which attempt this delivery is.
    pub attempt: i32,
    /// When it happened, by its source's clock.
    pub time: Timestamp,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The data, JSON.
    pub data: Vec<u8>,
}

/// How an event that succeeded did so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// It had its effect now.
    Applied,
    /// It had had its effect before.
    Duplicate,
    /// A newer version was there already.
    Superseded,
}

impl Detail {
    /// As written on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
        }
    }
}

/// A handler's answer to one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It has its effect.
    Success {
        /// How.
        detail: Detail,
        /// The version that the copy holds now.
        version: Option<i64>,
        /// What the sender gets to know.
        result: Option<Value>,
    },
    /// Commands only: handled, and the answer is no, for a business reason. Final.
    Rejected {
        /// Why, for the sender's program.
        result: Value,
    },
    /// A technical fault.
    Failed {
        /// What went wrong, to what, and what to do.
        error: String,
        /// Whether the same event may pass later.
        retryable: bool,
    },
}

/// Why a whole call of a handler failed; nothing of it is kept.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A statement failed: the engine finds out whose fault it was.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Another consumer applies the same events at this moment: the batch is to be repeated.
    #[error("another consumer applied some of the same events at the same time")]
    Raced,
    /// The handler itself is flawed.
    #[error("the handler {0}; that is a flaw of this service")]
    Flawed(String),
}

impl ApplyError {
    /// Whether single events may be blamed, so that the batch is to be taken apart.
    pub fn blames_data(&self, blame_unknown: bool) -> bool {
        match self.fault() {
            Fault::Data => true,
            Fault::Unknown => blame_unknown,
            Fault::Transient => false,
        }
    }

    /// Whether an event, the world, or something unknown is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Query(error) => Fault::of_query(error),
            Self::Db(error) => Fault::of(error),
            Self::Raced => Fault::Transient,
            Self::Flawed(_) => Fault::Data,
        }
    }
}

/// What a service does with the events that it receives.
pub trait Handler: Send + Sync + 'static {
    /// Whether events of this type may be answered REJECTED.
    fn is_command(&self, event_type: &str) -> bool;

    /// Applies `events` (no id twice) set-based inside the caller's transaction; one answer for each, in order.
    ///
    /// An event that is bad by itself (unreadable data, unknown type) gets [`Answer::Failed`] and leaves nothing.
    ///
    /// # Errors
    /// When a statement fails. The whole batch is rolled back, and repeated or taken apart by the engine.
    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Incoming],
    ) -> Result<Vec<Answer>, ApplyError>;

    /// The version of what this service holds of `key`, if it keeps a copy of such things at all.
    ///
    /// # Errors
    /// When a statement fails.
    fn copy_version(&self, _conn: &mut Conn, _key: &str) -> QueryResult<Option<CopyVersion>> {
        Ok(None)
    }
}
