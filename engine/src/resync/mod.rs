//! States sent again: the owner's snapshots and tombstones of many keys, as new events through the loop.
//!
//! What a copy lacks comes to it like any other change; nobody writes into another service's database. A job's row holds
//! which keys it is for and how far it has got. One step is one transaction: it locks the job's row and the keys' rows,
//! appends their events, and moves the cursor, so a kill at any point loses a step and doubles nothing. A step waits
//! until the relay has sent what the one before appended: changes that happen meanwhile never queue behind more than
//! one step's events. Where no copy waits for them, steps are small, and each is answered and rested from as long as it
//! took, so that live changes have the loop for themselves at least half of the time. Of several jobs the oldest is worked
//! on, and replays after all others. A replay into another topic appends nothing: its steps give pages to be sent. While it
//! can't get on, it rests, and the others go on.

mod into_topic;
mod model;
mod replay;
mod step;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use common::clock::Timestamp;
use common::event::NewEvent;
use common::stored_by_name;
use diesel::QueryResult;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::result::Error;
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

pub use into_topic::{KeptPage, SentPage};
pub use model::{NewResync, ResyncJob, Skipped, cancel, find, insert, list, skipped};
use step::LastStep;
pub use step::Outcome;

/// Keys that may be named one by one.
pub const MAX_KEYS: usize = 1_000;

/// Why states are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "lowercase")]
#[schema(rename_all = "lowercase")]
pub enum ResyncKind {
    /// A verification found that they differ.
    Repair,
    /// A person wants them sent.
    Resync,
    /// The owner's database came back from a backup.
    Restored,
    /// A new or emptied copy is filled; nobody asks for it by itself.
    Bootstrap,
    /// A person wants the states that are kept to go through the loop once more, or into another topic.
    Replay,
}

stored_by_name!(ResyncKind {
    Repair => "repair",
    Resync => "resync",
    Restored => "restored",
    Bootstrap => "bootstrap",
    Replay => "replay",
});

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResyncSelection {
    /// Those that a verification found to differ.
    #[schema(value_type = String)]
    Differences(#[serde(with = "number_as_text")] i64),
    /// These; 1,000 at the most.
    Keys(Vec<String>),
    /// All that this is true of.
    Where(Which),
    /// The states that are kept of these.
    Kept(KeptStates),
}

/// Which kept states a replay sends: since a moment, or of keys; of one key also from a version on. Exactly one of
/// `consumer` and `into` says where to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptStates {
    /// Who is to have them, through the loop; the others get them as well, and answer that they have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Another topic that they are sent into, as the messages that their events were; nobody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Of all keys that changed then or later, the states from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Of these keys, all; 1,000 at the most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Only from this version on, of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub from_version: Option<i64>,
}

impl ResyncSelection {
    /// As a job's row keeps it.
    ///
    /// # Errors
    /// When it can't be written, as a statement's failure.
    pub fn to_json(&self) -> QueryResult<String> {
        serde_json::to_string(self).map_err(|error| Error::SerializationError(Box::new(error)))
    }
}

/// Which of all keys; what is left out fits all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Their names begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// They changed then or later, by the owner's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_since: Option<Timestamp>,
}

/// Keys that a walk came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Those that were looked for, in bytewise order.
    pub keys: Vec<String>,
    /// Where to go on; none: it has come to the end.
    pub cursor: Option<String>,
}

/// Keys whose states an owner is to send again.
#[derive(Clone, Copy)]
pub struct Resend<'a> {
    /// Which, in bytewise order and each once.
    pub keys: &'a [ResendKey],
    /// Why, for the events' causes.
    pub kind: ResyncKind,
    /// The same in a person's words.
    pub reason: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// A key whose state is to be sent again.
///
/// A copy takes only what is newer. So where it holds the owner's version, or a greater one, the owner raises its own
/// above that, without any change of content; where the owner has nothing, it makes a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResendKey {
    /// Which.
    pub key: String,
    /// The version that a copy was found to hold, if one was.
    pub above: Option<i64>,
}

/// What an owner made of a [`Resend`].
#[derive(Debug, Default)]
pub struct Resent {
    /// The events, in the order of their keys.
    pub events: Vec<NewEvent>,
    /// Keys that it left as they are, and why.
    pub skipped: Vec<(String, String)>,
}

/// The jobs of a service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resync {
    woken: Arc<Notify>,
    /// What the next step may have to wait for.
    last: Arc<Mutex<LastStep>>,
}

impl Resync {
    /// Tells the background that a job was committed.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What [`Resync::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}

mod number_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
