//! Events on the copy: a batch is folded to the newest state of each product and written set-based.

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
use engine::inbox::{
    AppliedSnapshots, CopyVersion, Handler, HandlerOutcome, SnapshotCopy, apply_snapshots,
};
use engine::retention::may_be_forgotten;

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
        let AppliedSnapshots { outcomes, versions } = apply_snapshots(&Copies, conn, &arrivals)?;
        // A tombstone may have gone between the two; the same batch again sees that.
        if is_old && retention::first_known_event(conn)? != first_known {
            return Err(BatchError::Raced);
        }
        if copy_state::read(conn)?.is_some_and(|copy| !copy.is_complete()) {
            let came: Vec<&str> = versions.keys().map(String::as_str).collect();
            reservation::restore_sums(conn, &came)?;
        }
        reservation::on_copies_updated(conn, &versions, &deductions(&arrivals))?;
        Ok(outcomes)
    }

    fn copy_version(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        let row = model::versions(conn, &[key])?.into_iter().next();
        Ok(row.map(|row| CopyVersion { epoch: row.epoch, version: row.version }))
    }
}

/// The table of the copies, as snapshots are written to it.
struct Copies;

impl SnapshotCopy for Copies {
    type State = Arrival;

    fn write_newer(&self, conn: &mut Conn, states: &[&Arrival]) -> QueryResult<BTreeSet<String>> {
        let rows: Vec<&ProductCopy> = states.iter().map(|arrival| &arrival.row).collect();
        let written = model::upsert(conn, &rows)?;
        Ok(written.into_iter().map(|sku| sku.as_str().to_owned()).collect())
    }

    fn versions(
        &self,
        conn: &mut Conn,
        keys: &[&str],
    ) -> QueryResult<BTreeMap<String, CopyVersion>> {
        let of = |row: model::VersionRow| {
            (row.sku.as_str().to_owned(), CopyVersion { epoch: row.epoch, version: row.version })
        };
        Ok(model::versions(conn, keys)?.into_iter().map(of).collect())
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

/// Which orders have their deduction in the copies now: also those whose state a newer one has folded away.
fn deductions(arrivals: &[Result<Arrival, InvalidEvent>]) -> BTreeSet<(OrderId, Sku)> {
    let of_order = |arrival: &Arrival| Some((arrival.order?, arrival.row.sku.clone()));
    arrivals.iter().flatten().filter_map(of_order).collect()
}
