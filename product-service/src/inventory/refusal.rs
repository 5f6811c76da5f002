//! Why a change is refused.

use common::http::PreconditionFailed;
use common::inventory::Sku;
use common::text::IdentifierError;
use thiserror::Error;

/// Why the inventory refuses a change; nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeRefusal {
    /// There never was such a product.
    #[error("there is no product {0}; create it first")]
    Unknown(Sku),
    /// The product was removed.
    #[error("the product {sku} was removed at version {version}; create it again first")]
    Removed {
        /// Which.
        sku: Sku,
        /// Of its tombstone.
        version: i64,
    },
    /// The stock would go below zero, and the product allows no backorders.
    #[error(
        "{sku} has {quantity} in stock, so it can't change by {delta}: it allows no backorders"
    )]
    InsufficientStock {
        /// Which.
        sku: Sku,
        /// In stock now.
        quantity: i64,
        /// Asked for.
        delta: i64,
    },
    /// The stock would leave the range of numbers.
    #[error("{sku} has {quantity} in stock; with {delta} more it would leave the range of 64 bits")]
    Overflow {
        /// Which.
        sku: Sku,
        /// In stock now.
        quantity: i64,
        /// Asked for.
        delta: i64,
    },
    /// The way to another stock is longer than numbers are.
    #[error(
        "{sku} has {quantity} in stock; the difference to {wanted} leaves the range of 64 bits"
    )]
    TooFar {
        /// Which.
        sku: Sku,
        /// In stock now.
        quantity: i64,
        /// Asked for.
        wanted: i64,
    },
    /// A new product can't have this SKU, which could be taken for another one.
    #[error("the SKU of a new product {0}")]
    Name(#[from] IdentifierError),
    /// A stock below zero was put in without backorders.
    #[error("the quantity must not be below zero unless allow_backorder is true")]
    Negative,
    /// The client knows another version.
    #[error(transparent)]
    Precondition(#[from] PreconditionFailed),
}

impl ChangeRefusal {
    /// The field that it is about.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Unknown(_) | Self::Removed { .. } | Self::Name(_) => Some("sku"),
            Self::InsufficientStock { .. } | Self::Overflow { .. } => Some("delta"),
            Self::Negative | Self::TooFar { .. } => Some("quantity"),
            Self::Precondition(_) => None,
        }
    }
}

/// Why a change did not happen.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// It is refused for good.
    #[error(transparent)]
    Refused(#[from] ChangeRefusal),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// Others put in the same new products, as often as it was tried.
    #[error(
        "others put in the same products at the same time, as often as it was tried; try again shortly"
    )]
    Raced,
}
