//! Events as they arrive, read and checked.

use common::clock::Timestamp;
use common::event::Event;
use common::inventory::{Cause, CauseKind, InvalidSnapshot, InventorySnapshot, Sku};
use common::orders::OrderId;
use engine::inbox::{CopyVersion, Snapshot};
use thiserror::Error;

use super::model::ProductCopy;

/// Why an event can't be applied, whatever happens: its sender has to send another one.
#[derive(Debug, Error)]
pub(super) enum InvalidEvent {
    #[error(transparent)]
    Snapshot(#[from] InvalidSnapshot),
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
        let snapshot = InventorySnapshot::of(event)?;
        let order = snapshot.cause.as_ref().and_then(order_of);
        Ok(Self { row: copy_of(snapshot, event.epoch, now), order })
    }
}

impl Snapshot for Arrival {
    fn key(&self) -> &str {
        self.row.sku.as_str()
    }

    fn version(&self) -> CopyVersion {
        self.row.copy_version()
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
