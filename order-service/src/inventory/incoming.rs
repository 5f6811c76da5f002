//! Events as they arrive, read and checked.

use common::clock::Timestamp;
use common::event::Event;
use common::http::Object;
use common::inventory::{CHANGED, Cause, CauseKind, InventorySnapshot, REMOVED, Sku};
use common::orders::OrderId;
use thiserror::Error;

use super::model::ProductCopy;

/// Why an event can't be applied, whatever happens: its sender has to send another one.
#[derive(Debug, Error)]
pub(super) enum InvalidEvent {
    #[error("the event type {0:?} is not one of the inventory's")]
    Type(String),
    #[error("the data is not an inventory snapshot: {0}")]
    Data(#[from] serde_json::Error),
    #[error("the message's key is {key:?}, but its data is about {sku}")]
    Key { key: String, sku: Sku },
    #[error("the version {0} is not possible: versions begin with 1")]
    Version(i64),
    #[error("the event type is {event_type}, but its data says removed: {removed}")]
    Removed { event_type: String, removed: bool },
    #[error("the description holds U+0000, which the database can't keep")]
    Nul,
    #[error(
        "{0} is not known here, and this event is older than what is kept of removed products \
         (retention.removed_products); if there is this product, put it in again"
    )]
    Forgotten(Sku),
}

/// What an event brings: a state of a product, and the order that it comes from, if it comes from one.
pub(super) struct Arrival {
    pub(super) row: ProductCopy,
    pub(super) order: Option<OrderId>,
}

impl Arrival {
    /// What `event` brings, which arrives `now`.
    pub(super) fn read(event: &Event, now: Timestamp) -> Result<Self, InvalidEvent> {
        let of_removal = match event.event_type.as_str() {
            name if name == CHANGED.name => false,
            name if name == REMOVED.name => true,
            other => return Err(InvalidEvent::Type(other.to_owned())),
        };
        let Object(snapshot): Object<InventorySnapshot> = serde_json::from_slice(&event.data)?;
        if snapshot.sku.as_str() != event.key {
            return Err(InvalidEvent::Key { key: event.key.clone(), sku: snapshot.sku });
        }
        if snapshot.removed != of_removal {
            return Err(InvalidEvent::Removed {
                event_type: event.event_type.clone(),
                removed: snapshot.removed,
            });
        }
        if snapshot.version < 1 {
            return Err(InvalidEvent::Version(snapshot.version));
        }
        if snapshot.description.contains('\0') {
            return Err(InvalidEvent::Nul);
        }
        let order = snapshot.cause.as_ref().and_then(order_of);
        Ok(Self { row: copy_of(snapshot, event.epoch, now), order })
    }
}

fn order_of(cause: &Cause) -> Option<OrderId> {
    let reference = cause.reference.as_deref().filter(|_| cause.kind == CauseKind::Order)?;
    reference.parse().ok()
}

fn copy_of(snapshot: InventorySnapshot, epoch: i64, now: Timestamp) -> ProductCopy {
    ProductCopy {
        sku: snapshot.sku,
        description: snapshot.description,
        quantity: snapshot.quantity,
        unit_price_minor: snapshot.unit_price_minor,
        allow_backorder: snapshot.allow_backorder,
        removed: snapshot.removed,
        epoch,
        version: snapshot.version,
        updated_us: snapshot.updated_at,
        applied_us: now,
        reserved: 0,
    }
}
