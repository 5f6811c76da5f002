//! What a service does with the events that it receives, and what it answers.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Event;
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::batch::BatchError;

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
pub enum HandlerOutcome {
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

impl HandlerOutcome {
    /// Whether the event was written whole: a state that was there already is not written again, and proves nothing of
    /// what can be.
    pub(super) fn had_effect(&self) -> bool {
        match self {
            Self::Success { detail, .. } => *detail == Detail::Applied,
            Self::Rejected { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

/// How far a copy is; a later epoch is above every version of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct CopyVersion {
    /// The owner's epoch.
    pub epoch: i64,
    /// The owner's version.
    pub version: i64,
}

/// What a service does with the events that it receives.
pub trait Handler: Send + Sync + 'static {
    /// Whether events of this type may be answered REJECTED.
    fn is_command(&self, event_type: &str) -> bool;

    /// Applies `events` (no id twice) set-based inside the caller's transaction; one answer for each, in order.
    ///
    /// An event that is bad by itself (unreadable data, unknown type) gets [`HandlerOutcome::Failed`] and leaves nothing.
    ///
    /// # Errors
    /// When a statement fails. The whole batch is rolled back, and repeated or bisected by the engine.
    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError>;

    /// The version of what this service holds of `key`, if it keeps a copy of such things at all.
    ///
    /// # Errors
    /// When a statement fails.
    fn copy_version(&self, _conn: &mut Conn, _key: &str) -> QueryResult<Option<CopyVersion>> {
        Ok(None)
    }
}
