//! What requests carry: each field is checked as it is read, so that an error names it and its rule.

use std::num::NonZeroI64;

use common::http::{Identifier, Object, Text};
use common::inventory::Sku;
use serde::Deserialize;
use thiserror::Error;
use utoipa::ToSchema;

/// Lines of one batch at the most.
const MAX_LINES: usize = 1_000;

/// What a product is: up to 1,000 characters, and none at all is allowed.
pub type Description = Text<0, 1_000>;
/// Why stock comes or goes: 1 to 200 characters.
pub type Reason = Text<1, 200>;
/// What an adjustment belongs to, such as an invoice's number: 1 to 200 characters.
pub type Reference = Identifier<200>;

/// Why a field's value is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldError {
    /// A price below zero.
    #[error("must not be below zero")]
    Negative,
    /// A batch of adjustments to a count without a reason.
    #[error("adjust_to needs a reason, such as \"stocktaking\"")]
    NoReason,
    /// A reason or a reference for what is no adjustment.
    #[error("only adjust_to has a reason and a reference; leave it out")]
    NoAdjustment,
    /// A batch of no lines, or of too many.
    #[error("a batch has 1 to {MAX_LINES} lines, this one has {0}")]
    Lines(usize),
}

/// A price in whole minor units (pence, cents), zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64, minimum = 0, examples(255))]
pub struct Price(i64);

impl Price {
    /// Minor units.
    pub fn minor(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Price {
    type Error = FieldError;

    fn try_from(minor: i64) -> Result<Self, FieldError> {
        if minor < 0 { Err(FieldError::Negative) } else { Ok(Self(minor)) }
    }
}

/// The body of a PUT: a product without its SKU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductContent {
    /// What it is.
    pub description: Description,
    /// Pieces in stock; below zero only with backorders.
    pub quantity: i64,
    /// Price of one piece.
    pub unit_price_minor: Price,
    /// Whether the stock may go below zero; no, if left out.
    #[serde(default)]
    pub allow_backorder: bool,
}

/// The body of an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Pieces that come (above zero) or go; not 0.
    #[schema(value_type = i64, examples(-2))]
    pub delta: NonZeroI64,
    /// Why.
    pub reason: Reason,
    /// What it belongs to.
    pub reference: Option<Reference>,
}

/// The body of a batch of adjustments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentBatch {
    /// What to do, in order.
    pub lines: AdjustmentLines,
}

/// 1 to 1,000 lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Object<AdjustmentLine>>")]
#[schema(value_type = Vec<AdjustmentLine>, min_items = 1, max_items = 1000)]
pub struct AdjustmentLines(Vec<AdjustmentLine>);

impl AdjustmentLines {
    /// The lines, in order.
    pub fn into_inner(self) -> Vec<AdjustmentLine> {
        self.0
    }
}

impl TryFrom<Vec<Object<AdjustmentLine>>> for AdjustmentLines {
    type Error = FieldError;

    fn try_from(lines: Vec<Object<AdjustmentLine>>) -> Result<Self, FieldError> {
        match lines.len() {
            1..=MAX_LINES => Ok(Self(lines.into_iter().map(|Object(line)| line).collect())),
            count => Err(FieldError::Lines(count)),
        }
    }
}

/// One line of a batch: an adjustment and its product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentLine {
    /// Which product.
    pub sku: Sku,
    /// Pieces that come (above zero) or go; not 0.
    #[schema(value_type = i64, examples(-2))]
    pub delta: NonZeroI64,
    /// Why.
    pub reason: Reason,
    /// What it belongs to.
    pub reference: Option<Reference>,
}

impl AdjustmentLine {
    /// The adjustment and whose it is.
    pub fn split(self) -> (Sku, Adjustment) {
        let adjustment =
            Adjustment { delta: self.delta, reason: self.reason, reference: self.reference };
        (self.sku, adjustment)
    }
}

/// What a batch of products does with those that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PutMode {
    /// They stay as they are: only products that are not there are put in.
    IfAbsent,
    /// They are replaced, their stock too, as by a PUT.
    Replace,
    /// They are replaced, but the way to another stock is an adjustment, which is kept with its reason.
    AdjustTo,
}

/// A [`PutMode`] with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchMode {
    /// [`PutMode::IfAbsent`].
    IfAbsent,
    /// [`PutMode::Replace`].
    Replace,
    /// [`PutMode::AdjustTo`].
    AdjustTo {
        /// Why the stock is another one.
        reason: Reason,
        /// What the adjustments belong to.
        reference: Option<Reference>,
    },
}

/// The body of a batch of products.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductBatch {
    /// What becomes of products that are there already.
    mode: PutMode,
    /// Why the stock is another one: with `adjust_to`, and only then.
    reason: Option<Reason>,
    /// What the adjustments of `adjust_to` belong to.
    reference: Option<Reference>,
    /// Whether it is only to be said what would become of the lines; no, if left out.
    #[serde(default)]
    pub dry_run: bool,
    /// The products, in order.
    pub lines: ProductLines,
}

impl ProductBatch {
    /// What to do, with all that it needs.
    ///
    /// # Errors
    /// The field at fault, where `adjust_to` has no reason, or another mode has one.
    pub fn mode(&self) -> Result<BatchMode, (&'static str, FieldError)> {
        let (reason, reference) = (self.reason.clone(), self.reference.clone());
        match (self.mode, reason, reference) {
            (PutMode::AdjustTo, Some(reason), reference) => {
                Ok(BatchMode::AdjustTo { reason, reference })
            }
            (PutMode::AdjustTo, None, _) => Err(("reason", FieldError::NoReason)),
            (_, Some(_), _) => Err(("reason", FieldError::NoAdjustment)),
            (_, _, Some(_)) => Err(("reference", FieldError::NoAdjustment)),
            (PutMode::IfAbsent, None, None) => Ok(BatchMode::IfAbsent),
            (PutMode::Replace, None, None) => Ok(BatchMode::Replace),
        }
    }
}

/// 1 to 1,000 products.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Object<ProductLine>>")]
#[schema(value_type = Vec<ProductLine>, min_items = 1, max_items = 1000)]
pub struct ProductLines(Vec<ProductLine>);

impl ProductLines {
    /// The lines, in order.
    pub fn into_inner(self) -> Vec<ProductLine> {
        self.0
    }
}

impl TryFrom<Vec<Object<ProductLine>>> for ProductLines {
    type Error = FieldError;

    fn try_from(lines: Vec<Object<ProductLine>>) -> Result<Self, FieldError> {
        match lines.len() {
            1..=MAX_LINES => Ok(Self(lines.into_iter().map(|Object(line)| line).collect())),
            count => Err(FieldError::Lines(count)),
        }
    }
}

/// One line of a batch: a product with its SKU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductLine {
    /// Which product.
    pub sku: Sku,
    /// What it is.
    pub description: Description,
    /// Pieces in stock; below zero only with backorders.
    pub quantity: i64,
    /// Price of one piece.
    pub unit_price_minor: Price,
    /// Whether the stock may go below zero; no, if left out.
    #[serde(default)]
    pub allow_backorder: bool,
}

impl ProductLine {
    /// The content and whose it is.
    pub fn split(self) -> (Sku, ProductContent) {
        let content = ProductContent {
            description: self.description,
            quantity: self.quantity,
            unit_price_minor: self.unit_price_minor,
            allow_backorder: self.allow_backorder,
        };
        (self.sku, content)
    }
}
