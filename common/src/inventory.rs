//! The inventory's contract between the services: what names a product, and what its events carry.

use std::borrow::Borrow;
use std::fmt;
use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::event::{Event, EventKind, EventType};
use crate::http::{Object, Problem, path_segment};
use crate::text::{IdentifierError, check_identifier, visible};

/// A product was put in, replaced or adjusted; the data is an [`InventorySnapshot`].
pub const CHANGED: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };

/// A product was removed; the data is the [`InventorySnapshot`] of its tombstone.
pub const REMOVED: EventType =
    EventType { name: "stockloop.inventory.removed", kind: EventKind::Snapshot };

/// What is replicated under this contract.
pub const COLLECTION: &str = "inventory";

/// What of a product's state its copies may hold, by the names in [`InventorySnapshot`].
pub const FIELDS: [&str; 5] =
    ["description", "quantity", "unit_price_minor", "allow_backorder", "updated_at"];

/// The longest SKU, in characters.
const MAX_SKU: usize = 64;

/// Names a product: 1 to 64 characters of any script, without control characters or space at its ends.
///
/// A new product has to pass [`Sku::check_as_new`], too. What is stored or on its way already need not: it can be read,
/// changed and removed under its name.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    AsExpression,
    FromSqlRow,
    ToSchema,
)]
#[diesel(sql_type = Text)]
#[serde(try_from = "String")]
#[schema(
    description = "Names a product: no control characters, and no white space at its ends. The SKU of a new product holds no invisible characters either, and is in Unicode NFC",
    value_type = String,
    min_length = 1,
    max_length = 64,
    examples("85123A")
)]
pub struct Sku(String);

/// Why a text is not a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SkuError {
    /// It has no characters.
    #[error("a SKU must not be empty")]
    Empty,
    /// It has more than 64 characters.
    #[error("a SKU has {MAX_SKU} characters at the most")]
    TooLong,
    /// It holds a control character, such as a line break.
    #[error("a SKU must not hold control characters")]
    Control,
    /// It begins or ends with white space.
    #[error("a SKU must not begin or end with white space")]
    Space,
    /// It holds U+FFFD, which stands for bytes that were not UTF-8: several SKUs would look like one.
    #[error("a SKU must be UTF-8, and this one held bytes that are not")]
    Unreadable,
    /// It is `.` or `..`, which no URL can name.
    #[error("a SKU must not be . or .., since no URL could name it")]
    Dots,
}

impl Sku {
    /// Reads a SKU.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn parse(text: impl Into<String>) -> Result<Self, SkuError> {
        let text = text.into();
        if text.is_empty() {
            Err(SkuError::Empty)
        } else if text.chars().count() > MAX_SKU {
            Err(SkuError::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(SkuError::Control)
        } else if text.trim() != text {
            Err(SkuError::Space)
        } else if text.contains(char::REPLACEMENT_CHARACTER) {
            Err(SkuError::Unreadable)
        } else if text == "." || text == ".." {
            Err(SkuError::Dots)
        } else {
            Ok(Self(text))
        }
    }

    /// Checks that no other SKU could look like this one, which is to name a new product.
    ///
    /// # Errors
    /// [`IdentifierError`] where one could.
    pub fn check_as_new(&self) -> Result<(), IdentifierError> {
        check_identifier(&self.0)
    }

    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SKU as one segment of a URL's path: what is not unreserved (RFC 3986) is percent-encoded.
    pub fn path_segment(&self) -> String {
        path_segment(&self.0)
    }
}

/// As people can see all of it; [`Sku::as_str`] is the SKU itself.
impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.0))
    }
}

impl TryFrom<String> for Sku {
    type Error = SkuError;

    fn try_from(text: String) -> Result<Self, SkuError> {
        Self::parse(text)
    }
}

impl Borrow<str> for Sku {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<DB: Backend> ToSql<Text, DB> for Sku
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for Sku
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::parse(String::from_sql(bytes)?)?)
    }
}

/// The `{sku}` of a request's path, percent-decoded (`%2F` is a slash within the SKU); 422 if it is none.
impl FromRequest for Sku {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = web::Path::<String>::from_request(request, payload).into_inner();
        ready(match text.map(web::Path::into_inner) {
            Ok(text) => {
                Self::parse(text).map_err(|error| Problem::invalid("sku", error.to_string()))
            }
            Err(error) => Err(Problem::invalid("sku", error.to_string())),
        })
    }
}

/// The whole state of one product at one version: the data of both inventory events.
///
/// Readers ignore fields that they don't know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventorySnapshot {
    /// Which product; also the message's key.
    pub sku: Sku,
    /// What it is, in words.
    pub description: String,
    /// Pieces in stock; below zero only with backorders.
    pub quantity: i64,
    /// Price of one piece in whole minor units (pence, cents).
    pub unit_price_minor: i64,
    /// Whether the stock may go below zero.
    pub allow_backorder: bool,
    /// Whether this is the tombstone of a removed product.
    pub removed: bool,
    /// 1 for the first state; each change, the removal too, is one more.
    pub version: i64,
    /// When it became so, by the owner's clock; never before the version before it.
    pub updated_at: Timestamp,
    /// What it came from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What a change of the inventory came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    /// The kind of change.
    pub kind: CauseKind,
    /// Why, as whoever asked for it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it belongs to, such as an invoice's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The kinds of change that an inventory knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A product was put in or replaced.
    Put,
    /// Stock came or went.
    Adjustment,
    /// The product was removed.
    Removal,
    /// An order took stock, or gave it back when it was cancelled.
    Order,
    /// Nothing changed but the version: a copy was found to differ.
    Repair,
    /// Nothing changed: the state is sent again.
    Resync,
    /// Nothing changed: a new or emptied copy is filled.
    Bootstrap,
    /// Nothing changed: a state that was kept is sent once more.
    Replay,
    /// A kind that came after this reader was built.
    #[serde(other)]
    Other,
}

/// Why an event brings no state of a product, whatever happens: its sender has to send another one.
#[derive(Debug, Error)]
pub enum InvalidSnapshot {
    /// It is of another type.
    #[error("the event type {0:?} is not one of the inventory's")]
    Type(String),
    /// Its data is something else.
    #[error("the data is not an inventory snapshot: {0}")]
    Data(#[from] serde_json::Error),
    /// It contradicts the message that carries it.
    #[error("the message's key is {key:?}, but its data is about {sku}")]
    Key {
        /// The message's key.
        key: String,
        /// What the data is about.
        sku: Sku,
    },
    /// No state has such a version.
    #[error("the version {0} is not possible: versions begin with 1")]
    Version(i64),
    /// It contradicts its type.
    #[error("the event type is {event_type}, but its data says removed: {removed}")]
    Removed {
        /// Its type.
        event_type: String,
        /// What the data says.
        removed: bool,
    },
    /// PostgreSQL keeps no such text.
    #[error("the description holds U+0000, which the database can't keep")]
    Nul,
}

impl InventorySnapshot {
    /// The state that an event brings, checked against the event itself.
    ///
    /// # Errors
    /// Why it brings none.
    pub fn of(event: &Event) -> Result<Self, InvalidSnapshot> {
        let of_removal = match event.event_type.as_str() {
            name if name == CHANGED.name => false,
            name if name == REMOVED.name => true,
            other => return Err(InvalidSnapshot::Type(other.to_owned())),
        };
        let Object(snapshot): Object<Self> = serde_json::from_slice(&event.data)?;
        if snapshot.sku.as_str() != event.key {
            return Err(InvalidSnapshot::Key { key: event.key.clone(), sku: snapshot.sku });
        }
        if snapshot.removed != of_removal {
            let event_type = event.event_type.clone();
            return Err(InvalidSnapshot::Removed { event_type, removed: snapshot.removed });
        }
        if snapshot.version < 1 {
            return Err(InvalidSnapshot::Version(snapshot.version));
        }
        if snapshot.description.contains('\0') {
            return Err(InvalidSnapshot::Nul);
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_is_any_short_text_that_can_be_seen() {
        for good in ["85123A", "a/b c", "Größe-Ü", "日本", "%2F", &"ß".repeat(64)] {
            assert_eq!(Sku::parse(good).map(|sku| sku.0), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("", SkuError::Empty),
            (&*"ß".repeat(65), SkuError::TooLong),
            ("a\nb", SkuError::Control),
            ("a\0", SkuError::Control),
            ("a\u{85}b", SkuError::Control),
            (" a", SkuError::Space),
            ("a\u{a0}", SkuError::Space),
            ("a\u{fffd}", SkuError::Unreadable),
            ("..", SkuError::Dots),
        ] {
            assert_eq!(Sku::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_sku_that_looks_like_another_is_read_but_not_new() {
        let sku = Sku::parse("TEA\u{200b}");
        assert_eq!(sku.as_ref().map(Sku::as_str), Ok("TEA\u{200b}"));
        assert_eq!(sku.as_ref().map(ToString::to_string), Ok(r"TEA\u{200b}".to_owned()));
        let hidden = IdentifierError::Hidden { code: 0x200b, place: 4 };
        assert_eq!(sku.map(|sku| sku.check_as_new()), Ok(Err(hidden)));
        assert_eq!(Sku::parse("Größe-Ü").map(|sku| sku.check_as_new()), Ok(Ok(())));
    }

    #[test]
    fn a_sku_can_stand_in_a_url() {
        let segment = |text: &str| Sku::parse(text).map(|sku| sku.path_segment());
        assert_eq!(segment("85123A").as_deref(), Ok("85123A"));
        assert_eq!(segment("a/b %").as_deref(), Ok("a%2Fb%20%25"));
        assert_eq!(segment("ü").as_deref(), Ok("%C3%BC"));
    }

    #[test]
    fn a_snapshot_is_written_as_agreed() {
        let snapshot = InventorySnapshot {
            sku: Sku("85123A".to_owned()),
            description: "WHITE HANGING HEART".to_owned(),
            quantity: -3,
            unit_price_minor: 255,
            allow_backorder: true,
            removed: false,
            version: 7,
            updated_at: Timestamp::from_micros(1_291_191_960_000_000),
            cause: Some(Cause {
                kind: CauseKind::Adjustment,
                reason: Some("sale".to_owned()),
                reference: None,
            }),
        };
        let json = serde_json::to_string(&snapshot).unwrap_or_default();
        assert_eq!(
            json,
            r#"{"sku":"85123A","description":"WHITE HANGING HEART","quantity":-3,"unit_price_minor":255,"allow_backorder":true,"removed":false,"version":7,"updated_at":"2010-12-01T08:26:00.000000Z","cause":{"kind":"adjustment","reason":"sale"}}"#
        );
        assert_eq!(serde_json::from_str(&json).ok(), Some(snapshot));
    }

    #[test]
    fn a_reader_takes_what_later_writers_add() {
        let json = r#"{"sku":"A","description":"","quantity":1,"unit_price_minor":0,"allow_backorder":false,
            "removed":false,"version":1,"updated_at":"2010-12-01T08:26:00Z","colour":"red",
            "cause":{"kind":"stocktaking","who":"x"}}"#;
        let read: Option<InventorySnapshot> = serde_json::from_str(json).ok();
        let cause = read.and_then(|snapshot| snapshot.cause);
        assert_eq!(cause.map(|cause| cause.kind), Some(CauseKind::Other));
    }
}
