//! A product as events and rows tell it, and what changed its stock.

use std::fmt;

use common::clock::Timestamp;
use common::ids::EventId;
use serde::Deserialize;

use crate::check::rows::ProductRow;

/// A product as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::check) struct State {
    /// None of a row, and of what came before events named it.
    #[serde(default)]
    pub(super) sku: Option<String>,
    pub(super) description: String,
    pub(super) quantity: i64,
    pub(super) unit_price_minor: i64,
    pub(super) allow_backorder: bool,
    pub(super) removed: bool,
    pub(in crate::check) version: i64,
    pub(super) updated_at: Timestamp,
    #[serde(default)]
    pub(super) cause: Option<Cause>,
}

/// What it came from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Cause {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) reference: Option<String>,
}

impl State {
    /// What an event's payload says.
    pub(in crate::check) fn read(payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }

    /// What a row says.
    pub(in crate::check) fn of_row(row: &ProductRow) -> Self {
        Self {
            sku: None,
            description: row.description.clone(),
            quantity: row.quantity,
            unit_price_minor: row.unit_price_minor,
            allow_backorder: row.allow_backorder,
            removed: row.removed,
            version: row.version,
            updated_at: row.updated_us,
            cause: None,
        }
    }

    /// In words, but for its version.
    pub(in crate::check) fn content(&self) -> String {
        let Self { quantity, description, unit_price_minor, updated_at, .. } = self;
        let removed = if self.removed { ", removed" } else { "" };
        format!("{quantity} × {description:?} at {unit_price_minor}{removed}, since {updated_at}")
    }

    /// Whether both say the same, whatever their names, versions and causes.
    pub(in crate::check) fn has_content_of(&self, other: &Self) -> bool {
        let (sku, version, cause) = (other.sku.clone(), other.version, other.cause.clone());
        Self { sku, version, cause, ..self.clone() } == *other
    }

    /// What changed the stock.
    pub(super) fn changed_by(&self) -> ChangedBy {
        let Some(cause) = &self.cause else { return ChangedBy::Unknown };
        let order = || cause.reference.as_deref().and_then(|id| id.parse().ok());
        match (cause.kind.as_str(), cause.reason.as_deref()) {
            ("put", _) => ChangedBy::Put,
            ("removal", _) => ChangedBy::Removal,
            ("adjustment", _) => ChangedBy::Adjustment,
            ("order", Some("placed")) => order().map_or(ChangedBy::Unknown, ChangedBy::Placed),
            ("order", Some("cancelled")) => {
                order().map_or(ChangedBy::Unknown, ChangedBy::Cancelled)
            }
            ("repair" | "resync" | "bootstrap" | "replay", _) => ChangedBy::Nothing,
            _ => ChangedBy::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}: {}", self.version, self.content())
    }
}

/// What changes stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangedBy {
    Put,
    Removal,
    Adjustment,
    Placed(EventId),
    Cancelled(EventId),
    /// It is only told again.
    Nothing,
    /// A kind that came after this program.
    Unknown,
}
