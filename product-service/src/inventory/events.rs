//! The event of a change: a snapshot of the product as it is now, with what it came from.

use common::event::NewEvent;
use common::inventory::{CHANGED, Cause, CauseKind, InventorySnapshot, REMOVED};
use common::orders::OrderId;
use diesel::QueryResult;
use diesel::result::Error;

use super::{Adjustment, Product};

/// The event of `product`'s present state.
///
/// # Errors
/// When its data can't be written as JSON.
pub fn event(
    product: &Product,
    cause: Cause,
    traceparent: Option<String>,
) -> QueryResult<NewEvent> {
    let snapshot = InventorySnapshot {
        sku: product.sku.clone(),
        description: product.description.clone(),
        quantity: product.quantity,
        unit_price_minor: product.unit_price_minor,
        allow_backorder: product.allow_backorder,
        removed: product.removed,
        version: product.version,
        updated_at: product.updated_us,
        cause: Some(cause),
    };
    let payload = serde_json::to_string(&snapshot)
        .map_err(|error| Error::SerializationError(Box::new(error)))?;
    Ok(NewEvent {
        event_type: if product.removed { REMOVED } else { CHANGED },
        key: product.sku.as_str().to_owned(),
        version: product.version,
        payload,
        traceparent,
    })
}

/// A PUT's or a removal's cause.
pub(super) fn cause(kind: CauseKind) -> Cause {
    Cause { kind, reason: None, reference: None }
}

/// The cause of what an order takes or, when it is cancelled, gives back.
pub(crate) fn cause_of_order(id: OrderId, reason: &str) -> Cause {
    Cause {
        kind: CauseKind::Order,
        reason: Some(reason.to_owned()),
        reference: Some(id.to_string()),
    }
}

/// An adjustment's cause.
pub(super) fn cause_of_adjustment(adjustment: Adjustment) -> Cause {
    Cause {
        kind: CauseKind::Adjustment,
        reason: Some(adjustment.reason.into_inner()),
        reference: adjustment.reference.map(super::Reference::into_inner),
    }
}
