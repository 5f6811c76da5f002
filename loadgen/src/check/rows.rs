//! Rows that more than one judge reads; what a judge knows of one besides, its own row adds to it.

use common::clock::Timestamp;
use common::ids::{EventId, EventIdSql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

/// A product, or the copy of one.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(super) struct ProductRow {
    #[diesel(sql_type = Text)]
    pub(super) sku: String,
    #[diesel(sql_type = Text)]
    pub(super) description: String,
    #[diesel(sql_type = BigInt)]
    pub(super) quantity: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) unit_price_minor: i64,
    #[diesel(sql_type = Bool)]
    pub(super) allow_backorder: bool,
    #[diesel(sql_type = Bool)]
    pub(super) removed: bool,
    #[diesel(sql_type = BigInt)]
    pub(super) version: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) updated_us: Timestamp,
}

/// The columns of a [`ProductRow`].
pub(super) const PRODUCT: &str =
    "sku, description, quantity, unit_price_minor, allow_backorder, removed, version, updated_us";

/// What is noted of an adjustment.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct AdjustmentRow {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = Text)]
    pub(super) sku: String,
    /// The product's version after it.
    #[diesel(sql_type = BigInt)]
    pub(super) version: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) delta: i64,
    /// The stock after it.
    #[diesel(sql_type = BigInt)]
    pub(super) quantity: i64,
}

/// What an order took of a product.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct DeductionRow {
    #[diesel(sql_type = EventIdSql)]
    pub(super) order_id: EventId,
    #[diesel(sql_type = Text)]
    pub(super) sku: String,
    #[diesel(sql_type = BigInt)]
    pub(super) quantity: i64,
    /// The product's version after it.
    #[diesel(sql_type = BigInt)]
    pub(super) version: i64,
    /// The product's version after it was given back.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) returned_version: Option<i64>,
}

#[cfg(test)]
impl ProductRow {
    /// So many pieces of tea.
    pub(super) fn tea(version: i64, quantity: i64, updated_us: Timestamp) -> Self {
        Self {
            sku: "TEA".to_owned(),
            description: "Tea".to_owned(),
            quantity,
            unit_price_minor: 255,
            allow_backorder: false,
            removed: false,
            version,
            updated_us,
        }
    }
}
