//! What a service holds of a collection of keys: all of them are owned by one service, and copied by others.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventRow, NewEvent};
use diesel::QueryResult;
use diesel::result::Error;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::resync::{Resend, Resent, Walked, Which};

/// A service's part in a collection.
#[derive(Clone)]
pub enum Collection {
    /// It owns the keys, sends their states as snapshots, and verifies its consumers.
    Owned(Arc<dyn Owner>),
    /// It has a copy, which its owner verifies.
    Copied(Arc<dyn Replica>),
}

impl Collection {
    /// What it holds, whoever owns it.
    pub fn replica(&self) -> Arc<dyn Replica> {
        match self {
            Self::Owned(owner) => Arc::clone(owner) as Arc<dyn Replica>,
            Self::Copied(replica) => Arc::clone(replica),
        }
    }

    /// The owner's side, if this service is the owner.
    pub fn owner(&self) -> Option<Arc<dyn Owner>> {
        match self {
            Self::Owned(owner) => Some(Arc::clone(owner)),
            Self::Copied(_) => None,
        }
    }
}

/// The states of all keys of a collection, as a service has them in its own database.
pub trait Replica: Send + Sync {
    /// What is replicated, such as `inventory`.
    fn collection(&self) -> &'static str;

    /// What of a key's state this service holds, by the names that the owner's events give it.
    fn fields(&self) -> &'static [&'static str];

    /// The next rows of `select` in the bytewise order of their keys, at most `select.limit`; each with `select.fields`.
    ///
    /// Keys are given as they are stored, also such as could not be written by any event.
    ///
    /// # Errors
    /// When the statement fails.
    fn rows(&self, conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<Row>>;

    /// The moment before which removed keys may be forgotten already; none as long as none is.
    ///
    /// # Errors
    /// When the statement fails.
    fn forgotten_since(&self, conn: &mut Conn) -> QueryResult<Option<Timestamp>>;
}

/// The owner's side of a collection.
pub trait Owner: Replica {
    /// The key that comes `skip` keys after the next one behind `after`; none where there are not so many.
    ///
    /// # Errors
    /// When the statement fails.
    fn key_after(&self, conn: &mut Conn, after: &str, skip: i64) -> QueryResult<Option<String>>;

    /// The greatest version of a removed key that is forgotten: whatever has come and gone up to it does no harm.
    ///
    /// # Errors
    /// When the statement fails.
    fn forgotten_version(&self, conn: &mut Conn) -> QueryResult<i64>;

    /// Makes the events that bring the present states of keys to every copy; see [`Resend`].
    ///
    /// # Errors
    /// When a statement fails.
    fn resend(&self, conn: &mut Conn, resend: &Resend<'_>) -> QueryResult<Resent>;

    /// Makes a new event of a state that was kept, with its own version; `reason` is for its cause.
    ///
    /// # Errors
    /// When the state can't be read.
    fn again(&self, kept: &EventRow, reason: Option<&str>) -> QueryResult<NewEvent>;

    /// The greatest version of `key` whose state began before `moment`, of those that events have kept; none where none of
    /// that time is.
    ///
    /// # Errors
    /// When the statement fails.
    fn kept_before(
        &self,
        conn: &mut Conn,
        key: &str,
        moment: Timestamp,
    ) -> QueryResult<Option<i64>>;

    /// The next `limit` keys behind `after`, tombstones too: those that `which` is about.
    ///
    /// # Errors
    /// When the statement fails.
    fn next_keys(
        &self,
        conn: &mut Conn,
        after: &str,
        which: &Which,
        limit: i64,
    ) -> QueryResult<Walked>;
}

/// The versions of those of `keys` that `owner` has, tombstones too.
///
/// # Errors
/// When the statement fails.
pub fn versions_of(
    owner: &dyn Owner,
    conn: &mut Conn,
    keys: &[String],
) -> QueryResult<BTreeMap<String, i64>> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let select = Select {
        keys: Keys::Named(keys),
        tombstones_since: Timestamp::default(),
        fields: &[],
        limit: i64::try_from(keys.len()).unwrap_or(i64::MAX),
    };
    let rows = owner.rows(conn, &select)?;
    Ok(rows.into_iter().map(|row| (row.key, row.version)).collect())
}

/// Keys between two others, in bytewise order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Range {
    /// Behind this one; none: from the first key on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Up to this one, which belongs to the range; none: up to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<String>,
}

/// Which rows are asked for.
pub struct Select<'a> {
    /// Which keys.
    pub keys: Keys<'a>,
    /// Of a range, older tombstones are left out: the services forget them, and not at the same moment. Keys that are
    /// named have all of theirs.
    pub tombstones_since: Timestamp,
    /// What of their states goes into their digests, in this order.
    pub fields: &'a [String],
    /// How many rows at the most.
    pub limit: i64,
}

/// Keys, by where they lie or by name.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// All behind a key (none: from the first on) and up to another one (none: to the last).
    Between(Option<&'a str>, Option<&'a str>),
    /// These.
    Named(&'a [String]),
}

/// One key's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub key: String,
    /// The epoch of its version; the owner's rows have none of their own.
    pub epoch: Option<i64>,
    /// Its version.
    pub version: i64,
    /// Whether it is a tombstone.
    pub removed: bool,
    /// All of that but the epoch, and the content: what digests are made of.
    canonical: Vec<u8>,
}

/// One value of a state.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl Row {
    /// A row whose content is the `fields`, each as `value` tells it.
    ///
    /// # Errors
    /// When `value` does not know a field.
    pub fn new<'a>(
        head: (String, Option<i64>, i64, bool),
        fields: &[String],
        value: impl Fn(&str) -> Option<Value<'a>>,
    ) -> QueryResult<Self> {
        let (key, epoch, version, removed) = head;
        let mut canonical = Vec::with_capacity(128);
        put(&mut canonical, key.as_bytes());
        canonical.extend_from_slice(&version.to_be_bytes());
        canonical.push(u8::from(removed));
        for field in fields {
            match value(field).ok_or_else(|| unknown_field(field))? {
                Value::Text(text) => put(&mut canonical, text.as_bytes()),
                Value::Number(number) => put(&mut canonical, &number.to_be_bytes()),
                Value::Flag(flag) => put(&mut canonical, &[u8::from(flag)]),
            }
        }
        Ok(Self { key, epoch, version, removed, canonical })
    }

    /// Adds it to the digest of a range.
    pub(super) fn add_to(&self, hasher: &mut Sha256) {
        hasher.update(&self.canonical);
    }

    /// The digest of this row alone, in hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.canonical))
    }
}

/// With its length before it, so that no two rows can be written alike.
fn put(canonical: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    canonical.extend_from_slice(&length.to_be_bytes());
    canonical.extend_from_slice(bytes);
}

fn unknown_field(field: &str) -> Error {
    Error::DeserializationError(format!("there is no field {field:?} in this collection").into())
}
