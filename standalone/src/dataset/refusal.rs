//! Why a line is left out.

use common::text::IdentifierError;
use thiserror::Error;

use crate::tabular::BadLine;

/// The longest SKU and the longest invoice number accepted, in characters.
pub(super) const MAX_CODE: usize = 64;
/// The longest description accepted, in characters.
pub(super) const MAX_DESCRIPTION: usize = 1_000;
/// The largest quantity accepted either way: far above any sale, and far from overflowing a sum.
pub(super) const MAX_QUANTITY: i64 = 1_000_000_000;

/// A line that is left out, and why. The lines around it go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub(crate) struct Refused {
    /// The line's number in the file, 1-based; the header is line 1.
    pub(crate) line: u64,
    /// Why it is left out.
    pub(crate) reason: Reason,
}

/// Why a line is left out. The text is for people; [`Reason::category`] is for counting.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Reason {
    /// Reading failed here and nothing follows; the passes over a file turn this into a
    /// [`DatasetError`](super::source::DatasetError).
    #[error("reading failed: {message}")]
    Unreadable {
        /// What the decoder or the system said.
        message: String,
    },
    /// The line can't be cut into its columns.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// A value holds a tab, a NUL or another control character.
    #[error("{column} holds a control character")]
    ControlCharacter {
        /// The column's name.
        column: &'static str,
    },
    /// The invoice number or the SKU is missing.
    #[error("{column} is empty")]
    CodeEmpty {
        /// The column's name.
        column: &'static str,
    },
    /// A code is longer than [`MAX_CODE`], or a description than [`MAX_DESCRIPTION`].
    #[error("{column} has {length} characters; at most {most} are taken")]
    TooLong {
        /// The column's name.
        column: &'static str,
        /// Its length in characters.
        length: usize,
        /// How many are taken.
        most: usize,
    },
    /// A code could be taken for another one.
    #[error("{column} {error}")]
    Lookalike {
        /// The column's name.
        column: &'static str,
        /// Why.
        error: IdentifierError,
    },
    /// The quantity isn't a whole number, or is beyond [`MAX_QUANTITY`].
    #[error("Quantity {value} is not a whole number within ±{MAX_QUANTITY}")]
    Quantity {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The time isn't written in one of [`super::sale::TIME_FORMATS`].
    #[error("InvoiceDate {value} is not a time like 2010-12-01T08:26:00")]
    Time {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price isn't a decimal number, or too large to count in pence.
    #[error("UnitPrice {value} is not an amount like 2.55")]
    Price {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price has parts of a penny, which rounding would falsify.
    #[error("UnitPrice {value} has more than two decimals; whole pence are needed")]
    PriceTooPrecise {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The price is below zero: a booking such as a bad debt, not a sale.
    #[error("UnitPrice {value} is negative: a booking, not a sale")]
    PriceNegative {
        /// What stands there, cut and escaped.
        value: String,
    },
    /// The code names a charge or a booking, not something on a shelf.
    #[error("{sku:?} is not a product but a charge or a booking, and has no stock")]
    NotAProduct {
        /// The code.
        sku: String,
    },
    /// Neither a price nor a customer: a write-off, a find or a correction of unclear direction.
    #[error("no price and no customer: an internal entry, whose effect on the stock can't be told")]
    InternalEntry,
    /// The line moves nothing.
    #[error("the quantity is 0, so there is nothing to adjust")]
    QuantityZero,
}

impl Reason {
    /// A short, fixed name to count by.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Line(bad) => bad.category(),
            Self::ControlCharacter { .. } => "control character",
            Self::CodeEmpty { .. } => "code missing",
            Self::TooLong { .. } => "text too long",
            Self::Lookalike { .. } => "code looks like another",
            Self::Quantity { .. } => "bad quantity",
            Self::Time { .. } => "bad time",
            Self::Price { .. } | Self::PriceTooPrecise { .. } => "bad price",
            Self::PriceNegative { .. } => "negative price",
            Self::NotAProduct { .. } => "not a product",
            Self::InternalEntry => "internal entry",
            Self::QuantityZero => "quantity zero",
        }
    }
}
