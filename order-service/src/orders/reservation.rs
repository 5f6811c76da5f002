//! What orders were promised and the copy does not show as deducted yet.
//!
//! `available = quantity - reserved`. A line reserves its pieces in the transaction that places its order, and
//! the reservation ends in exactly one of these transactions:
//!
//! - *the copy's*, when an inventory event names the order as its cause: after a batch the copy is at that event's
//!   version or beyond (it was applied, or it was older than what the copy had), so the deduction is in
//!   `quantity`. All events of the batch count, also those that a newer state of the product folded away. The
//!   event by which a cancelled order gives back names the order too; it is newer than the deduction, so the
//!   same holds.
//! - *the copy's*, when the version of the deduction was known already from an answer, and the copy gets there
//!   by whatever event.
//! - *the answer's*, when it names a version that the copy has already: the copy may have jumped over the
//!   deduction by a later state that came first, and then the answer is the first sign of it.
//!   If the copy is not there yet, the answer only leaves the version behind.
//! - *the answer's*, when that says that nothing was or ever will be taken: REJECTED, or a cancellation that came
//!   before its order.
//!
//! So `quantity` goes down and the reservation away in one transaction, which is why `available` never rises in
//! between, in either order of arrival. Only where a later state overtakes the deduction (a retry) do both count
//! until the event or the answer arrives: too little is shown then, never too much. A CONFIRMED or CANCELLED
//! order keeps its reservation until the copy is there: with it gone earlier, what is about to be deducted would
//! look free. Version stands for (epoch, version), see [`CopyVersion`].
//!
//! Everyone who touches reservations of a product holds the lock of its copy's row, taken in the SKUs' order;
//! `product_copy.reserved`, their sum, is kept in step under the same lock.

use std::collections::{BTreeMap, BTreeSet};

use common::db::{Conn, ROWS_PER_INSERT, Unnest, column, json_list};
use common::ids::EventIdSql;
use common::inventory::Sku;
use common::on;
use common::orders::{Deduction, OrderId};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};
use engine::inbox::CopyVersion;

use super::OrderLineRow;
use crate::inventory::{self, ProductCopy};
use crate::schema::reservation;

/// What an order was promised of one product; the version is that of its deduction, once it is known.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = reservation)]
pub(crate) struct Reservation {
    pub(crate) order_id: OrderId,
    pub(crate) sku: Sku,
    pub(crate) quantity: i64,
    pub(crate) epoch: Option<i64>,
    pub(crate) version: Option<i64>,
}

/// What became of an order's stock at its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StockOutcome {
    /// It was taken, with these versions.
    Taken(Deduction),
    /// Nothing was taken, nor will be.
    NotTaken,
    /// An operator has dealt with it: what is not known to be taken is free again.
    ResolvedByOperator,
}

impl Reservation {
    /// The version of the deduction, once it is known.
    fn deducted_at(&self) -> Option<CopyVersion> {
        Some(CopyVersion { epoch: self.epoch?, version: self.version? })
    }
}

/// Promises what new orders want, as their `lines` say; the copies are locked.
pub(crate) fn add(conn: &mut Conn, lines: &[OrderLineRow]) -> QueryResult<()> {
    insert(conn, lines)?;
    inventory::reserve(conn, &add_up(lines))
}

fn add_up(lines: &[OrderLineRow]) -> BTreeMap<Sku, i64> {
    let mut wanted: BTreeMap<Sku, i64> = BTreeMap::new();
    for line in lines {
        let pieces = wanted.entry(line.sku.clone()).or_default();
        *pieces = pieces.saturating_add(line.quantity);
    }
    wanted
}

fn insert(conn: &mut Conn, lines: &[OrderLineRow]) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => {
            Unnest::of("INSERT INTO reservation (order_id, sku, quantity) SELECT * FROM unnest(…)")
                .column::<EventIdSql, _>(column(lines, |line| line.order_id))
                .column::<Text, _>(column(lines, |line| line.sku.as_str()))
                .column::<BigInt, _>(column(lines, |line| line.quantity))
                .execute(c)
                .map(drop)
        }
        Conn::Sqlite(c) => {
            let row = |line: &OrderLineRow| Reservation {
                order_id: line.order_id,
                sku: line.sku.clone(),
                quantity: line.quantity,
                epoch: None,
                version: None,
            };
            let rows: Vec<Reservation> = lines.iter().map(row).collect();
            rows.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
                diesel::insert_into(reservation::table).values(chunk).execute(c).map(drop)
            })
        }
    }
}

/// Promises once more what `orders` want, as their `lines` say: of what was promised before, nothing is left.
pub(crate) fn renew(
    conn: &mut Conn,
    orders: &BTreeSet<OrderId>,
    lines: &[OrderLineRow],
) -> QueryResult<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let wanted = add_up(lines);
    let skus: Vec<&str> = wanted.keys().map(Sku::as_str).collect();
    inventory::lock(conn, &skus)?;
    let before = of_orders(conn, orders)?;
    end(conn, &before)?;
    insert(conn, lines)?;
    inventory::reserve(conn, &wanted)
}

/// Sums up what is promised of products whose copies this transaction has written: a copy that was emptied while orders
/// were open comes back without it.
pub(crate) fn restore_sums(conn: &mut Conn, skus: &[&str]) -> QueryResult<()> {
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE product_copy p SET reserved = n.pieces
             FROM (SELECT sku, sum(quantity)::bigint AS pieces FROM reservation WHERE sku = ANY($1) GROUP BY sku) AS n
             WHERE p.sku = n.sku AND p.reserved <> n.pieces",
        )
        .bind::<Array<Text>, _>(skus)
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => sql_query(
            "UPDATE product_copy AS p SET reserved = n.pieces
             FROM (SELECT sku, sum(quantity) AS pieces FROM reservation
                   WHERE sku IN (SELECT value FROM json_each(?)) GROUP BY sku) AS n
             WHERE p.sku = n.sku AND p.reserved <> n.pieces",
        )
        .bind::<Text, _>(json_list(skus)?)
        .execute(c)
        .map(drop),
    }
}

/// Ends the reservations whose deduction the copies (locked, at these versions) now contain; `deductions` names those that
/// came with their events.
pub(crate) fn on_copies_updated(
    conn: &mut Conn,
    copies: &BTreeMap<String, CopyVersion>,
    deductions: &BTreeSet<(OrderId, Sku)>,
) -> QueryResult<()> {
    let mut ended = with_known_version(conn, copies)?;
    ended.retain(|row| row.deducted_at() <= copies.get(row.sku.as_str()).copied());
    let by_version: BTreeSet<(OrderId, Sku)> =
        ended.iter().map(|row| (row.order_id, row.sku.clone())).collect();
    let orders: BTreeSet<OrderId> = deductions.iter().map(|(order, _)| *order).collect();
    for row in of_orders(conn, &orders)? {
        let key = (row.order_id, row.sku.clone());
        if deductions.contains(&key) && !by_version.contains(&key) {
            ended.push(row);
        }
    }
    end(conn, &ended)
}

/// Ends what is known now to be taken and in the copy, or not to be taken at all; what is taken and not in the copy
/// yet gets the version that the copy has to reach.
pub(crate) fn on_stock_outcomes(
    conn: &mut Conn,
    outcomes: &BTreeMap<OrderId, StockOutcome>,
) -> QueryResult<()> {
    let orders: BTreeSet<OrderId> = outcomes.keys().copied().collect();
    let skus: BTreeSet<Sku> = of_orders(conn, &orders)?.into_iter().map(|row| row.sku).collect();
    if skus.is_empty() {
        return Ok(());
    }
    let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
    let version = |copy: ProductCopy| (copy.sku.as_str().to_owned(), copy.copy_version());
    let copies: BTreeMap<String, CopyVersion> =
        inventory::lock(conn, &skus)?.into_iter().map(version).collect();
    let (mut ended, mut waiting) = (Vec::new(), Vec::new());
    // Read again under the locks: events may have ended some meanwhile.
    for mut row in of_orders(conn, &orders)? {
        let outcome = outcomes.get(&row.order_id);
        if let (Some(StockOutcome::Taken(taken)), None) = (outcome, row.deducted_at())
            && let Some(version) = taken.versions.get(&row.sku)
        {
            (row.epoch, row.version) = (Some(taken.epoch), Some(*version));
            waiting.push(row.clone());
        }
        match (outcome, row.deducted_at()) {
            (Some(StockOutcome::NotTaken), _) | (Some(StockOutcome::ResolvedByOperator), None) => {
                ended.push(row);
            }
            (_, Some(version)) if Some(&version) <= copies.get(row.sku.as_str()) => ended.push(row),
            _ => {}
        }
    }
    waiting.retain(|row| !ended.contains(row));
    set_versions(conn, &waiting)?;
    end(conn, &ended)
}

/// The reservations of `orders`.
pub(crate) fn of_orders(
    conn: &mut Conn,
    orders: &BTreeSet<OrderId>,
) -> QueryResult<Vec<Reservation>> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    on!(conn, c => reservation::table
        .filter(reservation::order_id.eq_any(orders))
        .order((reservation::order_id, reservation::sku))
        .select(Reservation::as_select())
        .load(c))
}

/// The reservations of `copies` whose deduction's version is known.
fn with_known_version(
    conn: &mut Conn,
    copies: &BTreeMap<String, CopyVersion>,
) -> QueryResult<Vec<Reservation>> {
    if copies.is_empty() {
        return Ok(Vec::new());
    }
    on!(conn, c => reservation::table
        .filter(reservation::sku.eq_any(copies.keys()).and(reservation::version.is_not_null()))
        .select(Reservation::as_select())
        .load(c))
}

/// Writes the versions that the copies have to reach.
fn set_versions(conn: &mut Conn, rows: &[Reservation]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => sql_query(
            "UPDATE reservation r SET epoch = n.epoch, version = n.version
             FROM unnest($1, $2, $3, $4) AS n (order_id, sku, epoch, version)
             WHERE r.order_id = n.order_id AND r.sku = n.sku",
        )
        .bind::<Array<EventIdSql>, _>(column(rows, |row| row.order_id))
        .bind::<Array<Text>, _>(column(rows, |row| row.sku.as_str()))
        .bind::<Array<BigInt>, _>(rows.iter().filter_map(|row| row.epoch).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(rows.iter().filter_map(|row| row.version).collect::<Vec<_>>())
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.iter().try_for_each(|row| {
            diesel::update(reservation::table.find((row.order_id, &row.sku)))
                .set((reservation::epoch.eq(row.epoch), reservation::version.eq(row.version)))
                .execute(c)
                .map(drop)
        }),
    }
}

/// Ends reservations: the rows go, and the copies' sums go down with them.
fn end(conn: &mut Conn, rows: &[Reservation]) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Pg(c) => sql_query(
            "DELETE FROM reservation r USING unnest($1, $2) AS n (order_id, sku)
             WHERE r.order_id = n.order_id AND r.sku = n.sku",
        )
        .bind::<Array<EventIdSql>, _>(column(rows, |row| row.order_id))
        .bind::<Array<Text>, _>(column(rows, |row| row.sku.as_str()))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.iter().try_for_each(|row| {
            diesel::delete(reservation::table.find((row.order_id, &row.sku))).execute(c).map(drop)
        }),
    }?;
    let mut freed: BTreeMap<Sku, i64> = BTreeMap::new();
    for row in rows {
        *freed.entry(row.sku.clone()).or_default() -= row.quantity;
    }
    inventory::reserve(conn, &freed)
}
