//! The products that clients change: those that all adjust, those that all order, and those that each has for itself.

use serde_json::{Value, json};

/// Products that are adjusted, and may go below zero.
pub(in crate::chaos) const ADJUSTED: u32 = 40;
/// Products that are ordered; of the last few there is little.
pub(super) const ORDERED: u32 = 20;
const SCARCE: u32 = 4;
/// Products that each client has for itself, to replace them.
pub(super) const OWN: u64 = 4;

const OPENING: i64 = 1_000_000;
const LITTLE: i64 = 30;

/// What the descriptions of products at first say; what clients put in says something else.
pub(in crate::chaos) const OPENING_DESCRIPTION: &str = "as it was at first";

/// What the SKUs begin with of products that are replaced.
pub(in crate::chaos) const PUT: &str = "PUT-";

/// Of these, what those of a flood begin with; five digits follow, or more.
pub(in crate::chaos) const FLOOD: &str = "PUT-FLOOD-";

/// An adjusted product.
pub(in crate::chaos) fn adjusted(number: u32) -> String {
    format!("ADJ-{number:03}")
}

pub(super) fn ordered(number: u32) -> String {
    format!("ORD-{number:03}")
}

/// One that this client has for itself.
pub(super) fn own(client: u16, number: u64) -> String {
    format!("{PUT}{client:03}-{number}")
}

/// Whether there is so little of an ordered product that orders are refused.
pub(super) const fn is_scarce(number: u32) -> bool {
    number >= ORDERED - SCARCE
}

/// One that nobody changes any more once it is removed.
pub(in crate::chaos) fn withdrawn(number: u32) -> String {
    format!("GONE-{number:03}")
}

/// A product as it is at first, as a batch has it.
pub(in crate::chaos) fn product(sku: String, quantity: i64, allow_backorder: bool) -> Value {
    json!({
        "sku": sku,
        "description": OPENING_DESCRIPTION,
        "quantity": quantity,
        "unit_price_minor": 255,
        "allow_backorder": allow_backorder,
    })
}

/// The products before the load.
pub(in crate::chaos) fn products() -> Vec<Value> {
    let stock = |n| if is_scarce(n) { LITTLE } else { OPENING };
    let all_adjusted = (0..ADJUSTED).map(|n| product(adjusted(n), OPENING, true));
    let all_ordered = (0..ORDERED).map(|n| product(ordered(n), stock(n), false));
    all_adjusted.chain(all_ordered).collect()
}
