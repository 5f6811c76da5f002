//! What requests carry: each field is checked as it is read, so that an error names it and its rule.

use common::http::{Identifier, Object, Text};
use common::inventory::Sku;
use serde::Deserialize;
use thiserror::Error;
use utoipa::ToSchema;

/// Lines of one order at the most.
const MAX_LINES: usize = 1_000;

/// Pieces of one line at the most: a thousand of them still fit into 64 bits many times over.
const MAX_QUANTITY: i64 = 1_000_000_000;

/// Whom the order is for: 1 to 200 characters.
pub type Customer = Identifier<200>;
/// Why an order is cancelled: 1 to 200 characters.
pub type Reason = Text<1, 200>;

/// Why a field's value is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldError {
    /// No piece, fewer than none, or too many.
    #[error("a line has 1 to {MAX_QUANTITY} pieces")]
    Quantity,
    /// An order of no lines, or of too many.
    #[error("an order has 1 to {MAX_LINES} lines, this one has {0}")]
    Lines(usize),
}

/// Pieces: 1 to 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_i64)]
pub struct Quantity(i64);

impl Quantity {
    /// Pieces.
    pub const fn pieces(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = FieldError;

    fn try_from(pieces: i64) -> Result<Self, FieldError> {
        match pieces {
            1..=MAX_QUANTITY => Ok(Self(pieces)),
            _ => Err(FieldError::Quantity),
        }
    }
}

/// The body of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Placing)]
pub struct PlaceOrder {
    /// The customer's reference.
    pub customer: Customer,
    /// The products and quantities.
    pub lines: WantedLines,
}

/// 1 to 1,000 lines; lines of the same product are added up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Object<WantedLine>>")]
#[schema(value_type = Vec<WantedLine>, min_items = 1, max_items = 1000)]
pub struct WantedLines(Vec<WantedLine>);

impl WantedLines {
    /// The lines, in order.
    pub fn as_slice(&self) -> &[WantedLine] {
        &self.0
    }
}

impl TryFrom<Vec<Object<WantedLine>>> for WantedLines {
    type Error = FieldError;

    fn try_from(lines: Vec<Object<WantedLine>>) -> Result<Self, FieldError> {
        match lines.len() {
            1..=MAX_LINES => Ok(Self(lines.into_iter().map(|Object(line)| line).collect())),
            count => Err(FieldError::Lines(count)),
        }
    }
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedLine {
    /// Which product.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// The body of a cancellation, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cancelling)]
pub struct CancelOrder {
    /// Why.
    pub reason: Option<Reason>,
}
