//! Events on the copy: a batch is folded to the newest state of each product and written set-based.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::http::Object;
use common::inbox::{Answer, ApplyError, Detail, Handler, Incoming};
use common::inventory::{CHANGED, Cause, CauseKind, InventorySnapshot, REMOVED, Sku};
use common::orders::OrderId;
use common::peer::CopyVersion;
use diesel::QueryResult;
use thiserror::Error;

use super::model::{self, ProductCopy};
use crate::orders::{Age, reservation};

/// Applies both inventory events to the copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct InventoryHandler;

/// Why an event can't be applied, whatever happens: its sender has to send another one.
#[derive(Debug, Error)]
enum Unusable {
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
}

/// The newest state of one product in a batch, and which of the batch's events has it.
struct Newest {
    event: usize,
    row: ProductCopy,
}

impl Handler for InventoryHandler {
    fn is_command(&self, _event_type: &str) -> bool {
        false
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Incoming],
    ) -> Result<Vec<Answer>, ApplyError> {
        let read: Vec<_> = events.iter().map(|event| read(event, now)).collect();
        let newest = fold(&read);
        let copies = write(conn, newest)?;
        let ages = copies.iter().map(|(sku, copy)| (sku.clone(), copy.age)).collect();
        reservation::arrived(conn, &ages, &caused(&read))?;
        Ok(read
            .iter()
            .enumerate()
            .map(|(event, read)| match read {
                Ok(arrival) => answer(event, &arrival.row.sku, &copies),
                Err(unusable) => Answer::Failed { error: unusable.to_string(), retryable: false },
            })
            .collect())
    }

    fn copy_version(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        let held = model::held(conn, &[key])?.into_iter().next();
        Ok(held.map(|held| CopyVersion { epoch: held.epoch, version: held.version }))
    }
}

/// What a copy has after the batch: its (epoch, version), and the event that was applied to it, if one was.
struct Copy {
    age: Age,
    applied: Option<usize>,
}

/// What an event brings: a state of a product, and the order that it comes from, if it comes from one.
struct Arrival {
    row: ProductCopy,
    order: Option<OrderId>,
}

/// What `event` brings.
fn read(event: &Incoming, now: Timestamp) -> Result<Arrival, Unusable> {
    let of_removal = match event.event_type.as_str() {
        name if name == CHANGED.name => false,
        name if name == REMOVED.name => true,
        other => return Err(Unusable::Type(other.to_owned())),
    };
    let Object(snapshot): Object<InventorySnapshot> = serde_json::from_slice(&event.data)?;
    if snapshot.sku.as_str() != event.key {
        return Err(Unusable::Key { key: event.key.clone(), sku: snapshot.sku });
    }
    if snapshot.removed != of_removal {
        return Err(Unusable::Removed {
            event_type: event.event_type.clone(),
            removed: snapshot.removed,
        });
    }
    if snapshot.version < 1 {
        return Err(Unusable::Version(snapshot.version));
    }
    if snapshot.description.contains('\0') {
        return Err(Unusable::Nul);
    }
    let order = snapshot.cause.as_ref().and_then(order_of);
    Ok(Arrival { row: ProductCopy::of(snapshot, event.epoch, now), order })
}

fn order_of(cause: &Cause) -> Option<OrderId> {
    let reference = cause.reference.as_deref().filter(|_| cause.kind == CauseKind::Order)?;
    reference.parse().ok()
}

/// Which orders have their deduction in the copies now: also those whose state a newer one has folded away.
fn caused(read: &[Result<Arrival, Unusable>]) -> BTreeSet<(OrderId, Sku)> {
    let caused = |arrival: &Arrival| Some((arrival.order?, arrival.row.sku.clone()));
    read.iter().flatten().filter_map(caused).collect()
}

/// Keeps the highest (epoch, version) of each product, the first of equals; sorted by SKU.
fn fold(read: &[Result<Arrival, Unusable>]) -> BTreeMap<Sku, Newest> {
    let mut newest: BTreeMap<Sku, Newest> = BTreeMap::new();
    for (event, arrival) in read.iter().enumerate() {
        let Ok(Arrival { row, .. }) = arrival else { continue };
        let row = row.clone();
        match newest.entry(row.sku.clone()) {
            Entry::Vacant(place) => {
                place.insert(Newest { event, row });
            }
            Entry::Occupied(mut held) if held.get().row.age() < row.age() => {
                held.insert(Newest { event, row });
            }
            Entry::Occupied(_) => {}
        }
    }
    newest
}

/// Writes what is newer than the copies, and tells what the copies have then.
fn write(conn: &mut Conn, newest: BTreeMap<Sku, Newest>) -> QueryResult<BTreeMap<Sku, Copy>> {
    if newest.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (places, rows): (Vec<usize>, Vec<ProductCopy>) =
        newest.into_values().map(|newest| (newest.event, newest.row)).unzip();
    let written = model::upsert(conn, &rows)?;
    let mut copies = BTreeMap::new();
    for (event, row) in places.into_iter().zip(&rows) {
        if written.contains(&row.sku) {
            let (age, applied) = (row.age(), Some(event));
            copies.insert(row.sku.clone(), Copy { age, applied });
        }
    }
    let kept: Vec<&str> =
        rows.iter().map(|row| row.sku.as_str()).filter(|sku| !written.contains(*sku)).collect();
    if !kept.is_empty() {
        for held in model::held(conn, &kept)? {
            let (age, applied) = ((held.epoch, held.version), None);
            copies.insert(held.sku, Copy { age, applied });
        }
    }
    Ok(copies)
}

fn answer(event: usize, sku: &Sku, copies: &BTreeMap<Sku, Copy>) -> Answer {
    let copy = copies.get(sku);
    let detail = match copy {
        Some(copy) if copy.applied == Some(event) => Detail::Applied,
        _ => Detail::Superseded,
    };
    Answer::Success { detail, version: copy.map(|copy| copy.age.1), result: None }
}

impl ProductCopy {
    fn of(snapshot: InventorySnapshot, epoch: i64, now: Timestamp) -> Self {
        Self {
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

    /// What decides which of two states of a product is newer.
    fn age(&self) -> Age {
        (self.epoch, self.version)
    }
}
