//! What product-service tells of a product when it is asked, rather than with every event: the contract of
//! `GET /api/v1/inventory/{sku}/details` between the services.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::inventory::Sku;

/// An answer at the most, in bytes; the limits of the fields keep every answer below it.
pub const MAX_BYTES: usize = 64 * 1024;

/// The newest adjustments that an answer lists at the most.
pub const LAST_ADJUSTMENTS: usize = 10;

/// The details of one product.
///
/// Readers ignore fields that they don't know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductDetails {
    /// Which product.
    pub sku: Sku,
    /// Its version when it was asked for: that of the adjustments, since the texts have none.
    pub version: i64,
    /// What it is, at length.
    pub long_description: Option<String>,
    /// Who delivers it.
    pub supplier: Option<String>,
    /// The newest ones first, at most 10, none after `version`.
    pub last_adjustments: Vec<AdjustmentDetails>,
}

/// One adjustment of a product's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdjustmentDetails {
    /// Pieces that came or went.
    pub delta: i64,
    /// Pieces in stock after it.
    pub quantity: i64,
    /// The product's version after it.
    pub version: i64,
    /// Why.
    pub reason: String,
    /// What it belongs to.
    pub reference: Option<String>,
    /// When.
    pub at: Timestamp,
}
