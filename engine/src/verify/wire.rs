//! What travels between an owner and a copy: digests of ranges, and the states of few keys. Version 1.
//!
//! The digest of a range is the SHA-256 of its rows in the bytewise order of their keys. A row is written as its key, its
//! version (8 bytes), whether it is a tombstone (1 byte), and the fields in the order that was asked for. A key and a
//! field have their length before them (4 bytes; a number is 8 bytes, yes or no is 1); all numbers are big-endian.

use common::clock::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::replica::Range;

/// The version of this form; another one is refused.
pub const PROTOCOL: u32 = 1;

/// Ranges of one request at the most.
pub const MAX_RANGES: usize = 64;

/// Rows that the ranges of one request may have together.
pub const MAX_ROWS: i64 = 1 << 20;

/// Keys of one request, and states of one answer, at the most.
pub const MAX_STATES: usize = 500;

/// The longest key that is asked for, in bytes.
pub const MAX_KEY: usize = 4_096;

/// What a service has of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaInfo {
    /// The version of the form that it speaks.
    pub protocol: u32,
    /// Which service says so.
    pub service: String,
    /// What is replicated.
    pub collection: String,
    /// What of each state it holds, by the names in the owner's events.
    pub fields: Vec<String>,
    /// Tombstones that are older than this may be forgotten here.
    #[schema(value_type = String, format = DateTime)]
    pub tombstones_since: Timestamp,
    /// Which copy this is: made at random, and anew when it is emptied. Left out by an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_id: Option<String>,
    /// Whether the copy is complete. Left out by an owner, and by services that do not know: those are taken as complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// Says that a copy is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteCopy {
    /// Which copy: the `copy_id` of `/api/v1/replica`.
    #[schema(min_length = 1, max_length = 64)]
    pub copy_id: String,
}

/// Which rows digests and states are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// The version of this form.
    pub protocol: u32,
    /// What is compared.
    pub collection: String,
    /// What of each state goes into the digests, in this order.
    pub fields: Vec<String>,
    /// Older tombstones are left out.
    #[schema(value_type = String, format = DateTime)]
    pub tombstones_since: Timestamp,
}

/// Asks for the digests of ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestRequest {
    /// Of which rows.
    #[serde(flatten)]
    pub terms: Terms,
    /// 1 to 64 ranges.
    pub ranges: Vec<Range>,
    /// Rows of each range after which no more are read: one that has more is told as one row more than that.
    #[schema(minimum = 0)]
    pub at_most: i64,
}

/// The digests of ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestAnswer {
    /// The version of this form.
    pub protocol: u32,
    /// In the order of the request's ranges.
    pub digests: Vec<RangeDigest>,
}

/// A range in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RangeDigest {
    /// How many rows it has.
    pub rows: i64,
    /// SHA-256 of them, in hexadecimal.
    pub digest: String,
    /// The latest epoch among them, where rows have one: a copy of a later one takes no change of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
}

/// Asks for the states of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatesRequest {
    /// Of which rows.
    #[serde(flatten)]
    pub terms: Terms,
    /// Which keys.
    pub of: KeySet,
}

/// Keys, by where they lie or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeySet {
    /// The first 500 of this range.
    Range(Range),
    /// These, 500 at the most.
    Keys(Vec<String>),
}

/// The states of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatesAnswer {
    /// The version of this form.
    pub protocol: u32,
    /// In the bytewise order of their keys.
    pub states: Vec<KeyState>,
    /// Whether there are more in the range behind the last one.
    pub more: bool,
}

/// One key's state in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyState {
    /// Which.
    pub key: String,
    /// The epoch of its version, where the row has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Its version.
    pub version: i64,
    /// Whether it is a tombstone.
    pub removed: bool,
    /// SHA-256 of the row, in hexadecimal.
    pub digest: String,
}
