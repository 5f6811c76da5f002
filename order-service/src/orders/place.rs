//! Placing: checked against the copy, promised there, and on its way, in one transaction.

use std::collections::BTreeMap;

use common::copy_state;
use common::db::Conn;
use common::event::NewEvent;
use common::inventory::Sku;
use common::orders::{OrderId, OrderLine, OrderPlaced, PLACED, RefusalReason};
use diesel::QueryResult;
use diesel::result::Error;
use thiserror::Error;

use super::model::{self, Order, OrderLineRow, OrderRow, OrderStepRow};
use super::{OrderStatus, PlaceOrder, Placement, WantedLine, WriteContext, reservation};
use crate::inventory::{self, ProductCopy};

/// Why a product can't be ordered as things stand in the copy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineRefusal {
    /// It has not arrived here.
    #[error("there is no product {0} here; if its owner has it, its event is still on the way")]
    Unknown(Sku),
    /// It was removed.
    #[error("the product {0} was removed")]
    Removed(Sku),
    /// There is not enough of it.
    #[error("{wanted} of {sku} are wanted, and {available} are available")]
    Insufficient {
        /// Which.
        sku: Sku,
        /// Pieces, all lines added up.
        wanted: i64,
        /// Pieces in stock and not promised.
        available: i64,
    },
    /// Its promises would leave the range of numbers.
    #[error("so much of {0} is promised that the sum would leave the range of 64 bits")]
    OutOfRange(Sku),
}

/// Why an order was not placed; nothing is written.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// Lines stand in the way.
    #[error("{} of the order's products are not available", .0.len())]
    Refused(BTreeMap<Sku, LineRefusal>),
    /// Products are not known here, and the copy does not have all that its owner has yet.
    #[error(
        "the copy of the inventory is not complete yet and does not know all products of the order (unknown: {}); their owner sends them, so order again shortly", .0.len()
    )]
    Incomplete(BTreeMap<Sku, LineRefusal>),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] Error),
}

/// Places an order: PENDING, its pieces promised, its command in the outbox.
///
/// # Errors
/// Refused when a product is unknown or removed, or not enough of it is available; all such lines are listed. Incomplete
/// when a product is unknown to a copy that is still being filled.
pub fn place(
    conn: &mut Conn,
    context: &WriteContext,
    body: &PlaceOrder,
) -> Result<Order, PlaceError> {
    let wanted = add_up(body.lines.as_slice());
    check(conn, &wanted)?;
    let order = order(context, body, &wanted);
    model::insert(conn, &order)?;
    reservation::add(conn, order.row.id, &wanted)?;
    context.outbox.append(conn, vec![event(context, &order, &wanted)?])?;
    Ok(order)
}

fn add_up(lines: &[WantedLine]) -> BTreeMap<Sku, i64> {
    let mut wanted: BTreeMap<Sku, i64> = BTreeMap::new();
    for line in lines {
        // Neither the number of lines nor their pieces let the sum overflow.
        *wanted.entry(line.sku.clone()).or_default() += line.quantity.pieces();
    }
    wanted
}

/// Locks the copies, so that nobody else promises the same pieces, and finds the lines that stand in the way.
fn check(conn: &mut Conn, wanted: &BTreeMap<Sku, i64>) -> Result<(), PlaceError> {
    let skus: Vec<&str> = wanted.keys().map(Sku::as_str).collect();
    let copies: BTreeMap<Sku, ProductCopy> =
        inventory::lock(conn, &skus)?.into_iter().map(|copy| (copy.sku.clone(), copy)).collect();
    let refuse = |(sku, quantity): (&Sku, &i64)| {
        Some((sku.clone(), refusal(sku, *quantity, copies.get(sku))?))
    };
    let mut refused: BTreeMap<Sku, LineRefusal> = wanted.iter().filter_map(refuse).collect();
    if refused.is_empty() {
        return Ok(());
    }
    if refused.values().any(LineRefusal::may_be_on_its_way) && !is_complete(conn)? {
        refused.retain(|_, refusal| refusal.may_be_on_its_way());
        return Err(PlaceError::Incomplete(refused));
    }
    Err(PlaceError::Refused(refused))
}

fn is_complete(conn: &mut Conn) -> QueryResult<bool> {
    Ok(copy_state::read(conn)?.is_none_or(|copy| copy.is_complete()))
}

fn refusal(sku: &Sku, wanted: i64, copy: Option<&ProductCopy>) -> Option<LineRefusal> {
    let Some(copy) = copy else { return Some(LineRefusal::Unknown(sku.clone())) };
    let available = copy.available();
    if copy.removed {
        Some(LineRefusal::Removed(sku.clone()))
    } else if !copy.allow_backorder && available < wanted {
        Some(LineRefusal::Insufficient { sku: sku.clone(), wanted, available })
    } else if copy.reserved.checked_add(wanted).is_none() {
        Some(LineRefusal::OutOfRange(sku.clone()))
    } else {
        None
    }
}

fn order(context: &WriteContext, body: &PlaceOrder, wanted: &BTreeMap<Sku, i64>) -> Order {
    let id: OrderId = context.env.event_id();
    let row = OrderRow {
        id,
        customer: body.customer.as_str().to_owned(),
        status: OrderStatus::Pending,
        placement: Placement::Open,
        cancellation: None,
        revision: 1,
        placed_us: context.now,
        changed_us: context.now,
    };
    let line = |(sku, quantity): (&Sku, &i64)| OrderLineRow {
        order_id: id,
        sku: sku.clone(),
        quantity: *quantity,
        version: None,
        reason: None,
        detail: None,
    };
    let steps = vec![OrderStepRow::of(&row, "placed", None)];
    Order { lines: wanted.iter().map(line).collect(), row, steps }
}

fn event(
    context: &WriteContext,
    order: &Order,
    wanted: &BTreeMap<Sku, i64>,
) -> QueryResult<NewEvent> {
    let line = |(sku, quantity): (&Sku, &i64)| OrderLine { sku: sku.clone(), quantity: *quantity };
    let placed = OrderPlaced {
        order_id: order.row.id,
        customer: order.row.customer.clone(),
        lines: wanted.iter().map(line).collect(),
        placed_at: order.row.placed_us,
    };
    let payload = serde_json::to_string(&placed)
        .map_err(|error| Error::SerializationError(Box::new(error)))?;
    Ok(NewEvent {
        event_type: PLACED,
        key: order.row.id.to_string(),
        version: 0,
        payload,
        traceparent: context.traceparent.clone(),
    })
}

impl LineRefusal {
    /// Whether it says nothing of what the owner has, as long as the copy is not complete.
    const fn may_be_on_its_way(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The reason, for programs: the same that the owner gives.
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::Unknown(_) => RefusalReason::UnknownProduct,
            Self::Removed(_) => RefusalReason::RemovedProduct,
            Self::Insufficient { .. } => RefusalReason::InsufficientStock,
            Self::OutOfRange(_) => RefusalReason::OutOfRange,
        }
    }
}
