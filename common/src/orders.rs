//! The orders' contract between the services: the commands, and what their answers carry.
//!
//! `stockloop.order.placed` is answered SUCCESS with a [`Deduction`] or REJECTED with a [`Refusal`];
//! `stockloop.order.cancelled` is answered SUCCESS with a [`Return`], or REJECTED with the order's own
//! [`Refusal`] when there is nothing to cancel. Readers ignore fields that they don't know.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::event::{EventKind, EventType};
use crate::http::{Problem, ProblemResult};
use crate::ids::EventId;
use crate::inventory::Sku;

/// An order was placed: the data is an [`OrderPlaced`], the key the order's id.
pub const PLACED: EventType =
    EventType { name: "stockloop.order.placed", kind: EventKind::Command };

/// An order is to be cancelled: the data is an [`OrderCancelled`], the key the order's id.
pub const CANCELLED: EventType =
    EventType { name: "stockloop.order.cancelled", kind: EventKind::Command };

/// Names an order: a UUIDv7, so that ids sort by the time of placing.
pub type OrderId = EventId;

/// The order that a request's path names.
///
/// # Errors
/// 422 when it is not an id.
pub fn id_of_path(text: &str) -> ProblemResult<OrderId> {
    text.parse().map_err(|error| {
        Problem::invalid("id", format!("{text:?} is not an order's id, which is a UUID: {error}"))
    })
}

/// The data of [`PLACED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// Which order; also the message's key.
    pub order_id: OrderId,
    /// The customer reference, as it was given.
    pub customer: String,
    /// What is wanted; each product once.
    pub lines: Vec<OrderLine>,
    /// When, by order-service's clock.
    pub placed_at: Timestamp,
}

/// What is wanted of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Which.
    pub sku: Sku,
    /// Pieces, at least 1.
    pub quantity: i64,
}

/// The data of [`CANCELLED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// Which order; also the message's key.
    pub order_id: OrderId,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, by order-service's clock.
    pub cancelled_at: Timestamp,
}

/// The stock was taken: the result of a placed order's SUCCESS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deduction {
    /// The epoch that the versions belong to.
    pub epoch: i64,
    /// The version that each product got by it.
    pub versions: BTreeMap<Sku, i64>,
}

/// The answer is no: the result of REJECTED.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The lines that stand in the way; the others would have passed.
    pub lines: Vec<RefusedLine>,
    /// Whether the cancellation came first, so that nothing was taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

/// Why a line stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedLine {
    /// Which product.
    pub sku: Sku,
    /// Why, for programs.
    pub reason: RefusalReason,
    /// Why, in words.
    pub detail: String,
}

/// The reasons for refusing a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// There is no such product.
    UnknownProduct,
    /// The product was removed.
    RemovedProduct,
    /// There is not enough, and the product allows no backorders.
    InsufficientStock,
    /// The stock would leave the range of 64 bits.
    OutOfRange,
    /// A reason that came after this reader was built.
    #[serde(other)]
    Other,
}

impl RefusalReason {
    /// As written on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownProduct => "unknown_product",
            Self::RemovedProduct => "removed_product",
            Self::InsufficientStock => "insufficient_stock",
            Self::OutOfRange => "out_of_range",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The order is cancelled at the owner: the result of a cancellation's SUCCESS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// What had been taken; absent when the cancellation came before the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deducted: Option<Deduction>,
    /// The version that each product got by giving back; a product that was removed meanwhile got nothing back.
    pub versions: BTreeMap<Sku, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(
        value: &T,
        json: &str,
    ) {
        assert_eq!(serde_json::to_string(value).ok().as_deref(), Some(json));
        assert_eq!(serde_json::from_str::<T>(json).ok().as_ref(), Some(value));
    }

    #[test]
    fn answers_are_written_as_agreed() {
        let Ok(sku) = Sku::parse("85123A") else { return };
        let taken = Deduction { epoch: 1, versions: BTreeMap::from([(sku.clone(), 7)]) };
        round(&taken, r#"{"epoch":1,"versions":{"85123A":7}}"#);
        let back = Return { deducted: Some(taken), versions: BTreeMap::from([(sku.clone(), 9)]) };
        round(&back, r#"{"deducted":{"epoch":1,"versions":{"85123A":7}},"versions":{"85123A":9}}"#);
        round(&Return { deducted: None, versions: BTreeMap::new() }, r#"{"versions":{}}"#);
        let line = RefusedLine {
            sku,
            reason: RefusalReason::InsufficientStock,
            detail: "it has 2".to_owned(),
        };
        round(
            &Refusal { lines: vec![line], cancelled: false },
            r#"{"lines":[{"sku":"85123A","reason":"insufficient_stock","detail":"it has 2"}]}"#,
        );
    }
}
