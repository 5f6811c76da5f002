//! Events on the copy: a batch is folded to the newest state of each product and written set-based.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::copy_state;
use common::db::Conn;
use common::event::Event;
use common::ids::EventId;
use common::inventory::Sku;
use common::orders::OrderId;
use diesel::QueryResult;
use engine::batch::BatchError;
use engine::inbox::{CopyVersion, Detail, Handler, HandlerOutcome};
use engine::retention::may_be_forgotten;

use super::EpochVersion;
use super::incoming::{Arrival, InvalidEvent};
use super::model::{self, ProductCopy};
use crate::orders::reservation;
use crate::retention;

/// Applies both inventory events to the copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct InventoryHandler;

impl Handler for InventoryHandler {
    fn is_command(&self, _event_type: &str) -> bool {
        false
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        let mut arrivals: Vec<Result<Arrival, InvalidEvent>> =
            events.iter().map(|event| Arrival::read(event, now)).collect();
        let is_old = events.iter().any(|event| may_be_forgotten(event.id, now));
        let first_known = if is_old { retention::first_known_event(conn)? } else { None };
        if let Some(first_known) = first_known {
            refuse_forgotten(conn, first_known, events, &mut arrivals)?;
        }
        let copies = write(conn, fold(&arrivals))?;
        // A tombstone may have gone between the two; the same batch again sees that.
        if is_old && retention::first_known_event(conn)? != first_known {
            return Err(BatchError::Raced);
        }
        if copy_state::read(conn)?.is_some_and(|copy| !copy.is_complete()) {
            let written = copies.iter().filter(|(_, copy)| copy.applied.is_some());
            let written: Vec<&str> = written.map(|(sku, _)| sku.as_str()).collect();
            reservation::restore_sums(conn, &written)?;
        }
        let versions = copies.iter().map(|(sku, copy)| (sku.clone(), copy.version)).collect();
        reservation::on_copies_updated(conn, &versions, &deductions(&arrivals))?;
        let results = arrivals.iter().enumerate().map(|(place, arrival)| match arrival {
            Ok(arrival) => result(place, &arrival.row.sku, &copies),
            Err(invalid) => HandlerOutcome::Failed { error: invalid.to_string(), retryable: false },
        });
        Ok(results.collect())
    }

    fn copy_version(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        let row = model::versions(conn, &[key])?.into_iter().next();
        Ok(row.map(|row| CopyVersion { epoch: row.epoch, version: row.version }))
    }
}

/// Refuses states that may be older than a removal that is forgotten: they would bring the product back.
fn refuse_forgotten(
    conn: &mut Conn,
    first_known: EventId,
    events: &[Event],
    arrivals: &mut [Result<Arrival, InvalidEvent>],
) -> QueryResult<()> {
    let mut old = Vec::new();
    for (event, arrival) in events.iter().zip(arrivals) {
        if let Ok(Arrival { row, .. }) = &*arrival
            && event.id < first_known
            && !row.removed
        {
            old.push((row.sku.clone(), arrival));
        }
    }
    let skus: Vec<&str> = old.iter().map(|(sku, _)| sku.as_str()).collect();
    let known: BTreeSet<Sku> =
        model::versions(conn, &skus)?.into_iter().map(|row| row.sku).collect();
    for (sku, arrival) in old.into_iter().filter(|(sku, _)| !known.contains(sku)) {
        *arrival = Err(InvalidEvent::Forgotten(sku));
    }
    Ok(())
}

/// The newest state of one product in a batch, and the place of the event that has it.
struct Newest {
    place: usize,
    row: ProductCopy,
}

/// What a copy has after the batch: its version, and the place of the event that was applied to it, if one was.
struct CopyState {
    version: EpochVersion,
    applied: Option<usize>,
}

/// Which orders have their deduction in the copies now: also those whose state a newer one has folded away.
fn deductions(arrivals: &[Result<Arrival, InvalidEvent>]) -> BTreeSet<(OrderId, Sku)> {
    let of_order = |arrival: &Arrival| Some((arrival.order?, arrival.row.sku.clone()));
    arrivals.iter().flatten().filter_map(of_order).collect()
}

/// Keeps the highest (epoch, version) of each product, the first of equals; sorted by SKU.
fn fold(arrivals: &[Result<Arrival, InvalidEvent>]) -> BTreeMap<Sku, Newest> {
    let mut newest: BTreeMap<Sku, Newest> = BTreeMap::new();
    for (place, arrival) in arrivals.iter().enumerate() {
        let Ok(Arrival { row, .. }) = arrival else { continue };
        let row = row.clone();
        match newest.entry(row.sku.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Newest { place, row });
            }
            Entry::Occupied(mut entry) if entry.get().row.epoch_version() < row.epoch_version() => {
                entry.insert(Newest { place, row });
            }
            Entry::Occupied(_) => {}
        }
    }
    newest
}

/// Writes what is newer than the copies, and says what the copies have then.
fn write(conn: &mut Conn, newest: BTreeMap<Sku, Newest>) -> QueryResult<BTreeMap<Sku, CopyState>> {
    if newest.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (places, rows): (Vec<usize>, Vec<ProductCopy>) =
        newest.into_values().map(|newest| (newest.place, newest.row)).unzip();
    let written = model::upsert(conn, &rows)?;
    let mut copies = BTreeMap::new();
    for (place, row) in places.into_iter().zip(&rows) {
        if written.contains(&row.sku) {
            let copy = CopyState { version: row.epoch_version(), applied: Some(place) };
            copies.insert(row.sku.clone(), copy);
        }
    }
    let kept: Vec<&str> =
        rows.iter().map(|row| row.sku.as_str()).filter(|sku| !written.contains(*sku)).collect();
    if !kept.is_empty() {
        for row in model::versions(conn, &kept)? {
            let copy = CopyState { version: (row.epoch, row.version), applied: None };
            copies.insert(row.sku, copy);
        }
    }
    Ok(copies)
}

fn result(place: usize, sku: &Sku, copies: &BTreeMap<Sku, CopyState>) -> HandlerOutcome {
    let copy = copies.get(sku);
    let detail = match copy {
        Some(copy) if copy.applied == Some(place) => Detail::Applied,
        _ => Detail::Superseded,
    };
    HandlerOutcome::Success { detail, version: copy.map(|copy| copy.version.1), result: None }
}
