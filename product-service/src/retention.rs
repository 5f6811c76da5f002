//! What of the service's own tables goes when it is old.
//!
//! Tombstones: a product that is put in again after its tombstone went must not get a version that the copies know
//! already, so the greatest version that went is noted, and new products begin above it.
//!
//! Orders: a command whose order's row went would take the stock a second time, so the moment up to which rows went is
//! noted, and commands of unknown orders from before it are answered FAILED, for a person to decide.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::inventory::Sku;
use common::on;
use common::orders::OrderId;
use diesel::prelude::*;
use engine::retention::{BATCH, Retention, first_known, forgotten_up_to, note_forgotten};

use crate::schema::{adjustment, order_deduction, order_record, product};

#[cfg(test)]
mod tests;

const ORDERS: &str = "orders";
const VERSIONS: &str = "versions of products";

/// Deletes one batch of each kind; returns how many rows went.
///
/// # Errors
/// When a statement fails.
pub fn forget(conn: &mut Conn, retention: Retention) -> QueryResult<usize> {
    let adjustments = forget_adjustments(conn, retention.adjustments)?;
    let products = forget_removed(conn, retention.removed_products)?;
    Ok(adjustments + products + forget_orders(conn, retention.orders)?)
}

/// The version that a product begins with, once it is known to have no row.
pub(crate) fn first_version(conn: &mut Conn) -> QueryResult<i64> {
    Ok(forgotten_up_to(conn, VERSIONS)?.unwrap_or(0).saturating_add(1))
}

/// Orders below this id may be gone: to be asked after their rows were looked for.
pub(crate) fn first_known_order(conn: &mut Conn) -> QueryResult<Option<OrderId>> {
    first_known(conn, ORDERS)
}

/// They are numbered in the order of time, so the oldest batch shows whether any is due.
fn forget_adjustments(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let oldest = adjustment::table
        .order(adjustment::seq)
        .limit(BATCH)
        .select((adjustment::seq, adjustment::at_us));
    let oldest: Vec<(i64, Timestamp)> = on!(&mut *conn, c => oldest.load(c))?;
    let old: Vec<i64> =
        oldest.into_iter().filter(|(_, at)| *at < before).map(|(seq, _)| seq).collect();
    let old = adjustment::table.filter(adjustment::seq.eq_any(&old));
    on!(conn, c => diesel::delete(old).execute(c))
}

fn forget_removed(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let old = product::table
        .filter(product::removed_us.lt(before))
        .order(product::removed_us)
        .limit(BATCH)
        .select((product::sku, product::version));
    // What somebody else has locked is passed by: it may be about to be put in again.
    let gone: Vec<(Sku, i64)> = match conn {
        Conn::Pg(c) => old.for_update().skip_locked().load(c)?,
        Conn::Sqlite(c) => old.load(c)?,
    };
    let Some(version) = gone.iter().map(|(_, version)| *version).max() else { return Ok(0) };
    let skus: Vec<&str> = gone.iter().map(|(sku, _)| sku.as_str()).collect();
    let rows = product::table.filter(product::sku.eq_any(&skus));
    on!(&mut *conn, c => diesel::delete(rows).execute(c))?;
    note_forgotten(conn, VERSIONS, version)?;
    Ok(gone.len())
}

fn forget_orders(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    use order_record as r;
    // Ids are made in the order of time, so the range of the key ends the search.
    let old = r::table
        .filter(r::id.lt(EventId::first_at(before)))
        .filter(r::handled_us.lt(before))
        .filter(r::cancelled_us.is_null().or(r::cancelled_us.lt(before)))
        .order(r::id)
        .limit(BATCH)
        .select(r::id);
    let gone: Vec<OrderId> = match conn {
        Conn::Pg(c) => old.for_update().skip_locked().load(c)?,
        Conn::Sqlite(c) => old.load(c)?,
    };
    if gone.is_empty() {
        return Ok(0);
    }
    let lines = order_deduction::table.filter(order_deduction::order_id.eq_any(&gone));
    on!(&mut *conn, c => diesel::delete(lines).execute(c))?;
    let rows = r::table.filter(r::id.eq_any(&gone));
    on!(&mut *conn, c => diesel::delete(rows).execute(c))?;
    note_forgotten(conn, ORDERS, before.micros())?;
    Ok(gone.len())
}
