//! Why a line of a file is refused.

use common::http::TextError;
use common::inventory::SkuError;
use thiserror::Error;

use crate::tabular::{BadAmount, BadLine, quoted};

/// Why a line is refused; the lines around it go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// The line can't be cut into its columns.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// A line of NDJSON is something else.
    #[error("the line is no JSON object: {0}")]
    NotAnObject(String),
    /// A value that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A line has its price in both forms.
    #[error("both unit_price and unit_price_minor are there; leave one out")]
    TwoPrices,
    /// It names no product.
    #[error("{0}")]
    Sku(#[from] SkuError),
    /// The description can't be taken.
    #[error("description {0}")]
    Description(#[from] TextError),
    /// The stock is no count.
    #[error("quantity {} is not a whole number", quoted(.0))]
    Quantity(String),
    /// The stock is below zero.
    #[error("quantity is below zero, which only products with allow_backorder may have")]
    Negative,
    /// The price is no price.
    #[error("unit_price {} {why}", quoted(.value))]
    Price {
        /// What stands there.
        value: String,
        /// What is wrong with it.
        why: BadAmount,
    },
    /// The price is not in whole minor units.
    #[error("unit_price_minor {} is not a whole number from 0", quoted(.0))]
    PriceMinor(String),
    /// It is neither yes nor no.
    #[error("allow_backorder {} is not true or false", quoted(.0))]
    Backorder(String),
    /// The service refuses it.
    #[error("{0}")]
    Service(String),
}
