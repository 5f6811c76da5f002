//! Placing: checked against the copy, promised there, and on its way, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use common::copy_state;
use common::db::Conn;
use common::event::NewEvent;
use common::http::GroupedChange;
use common::inventory::Sku;
use common::orders::{OrderId, OrderLine, OrderPlaced, PLACED, RefusalReason};
use diesel::QueryResult;
use diesel::result::Error;
use thiserror::Error;

use super::model::{self, Order, OrderChanges, OrderLineRow, OrderRow, OrderStepRow};
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

/// Why an order was not placed; nothing of it is written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlaceRefusal {
    /// Lines stand in the way.
    #[error("{} of the order's products are not available", .0.len())]
    NotAvailable(BTreeMap<Sku, LineRefusal>),
    /// Products are not known here, and the copy does not have all that its owner has yet.
    #[error(
        "the copy of the inventory is not complete yet and does not know all products of the order (unknown: {}); their owner sends them, so order again shortly", .0.len()
    )]
    Incomplete(BTreeMap<Sku, LineRefusal>),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// It is PENDING, its pieces promised, its command in the outbox.
    Placed(Order),
    /// A product is unknown or removed, or not enough of it is available; all such lines are listed.
    Refused(PlaceRefusal),
    /// Another transaction holds one of its products, which were left.
    Held,
}

/// Places orders, each as if it had come after those before it. The outcomes are in the order of `group`.
///
/// # Errors
/// When a statement fails; then all of it has to be rolled back.
pub fn place_group(
    conn: &mut Conn,
    context: &WriteContext,
    group: &[GroupedChange<'_, PlaceOrder>],
) -> QueryResult<Vec<PlaceOutcome>> {
    let wanted: Vec<Wanted> = group.iter().map(|one| add_up(one.change.lines.as_slice())).collect();
    let mut pending = PendingOrders::lock(conn, &wanted)?;
    let mut outcomes = Vec::with_capacity(group.len());
    for (one, wanted) in group.iter().zip(&wanted) {
        outcomes.push(pending.place(context, one, wanted)?);
    }
    pending.write(conn, context)?;
    Ok(outcomes)
}

/// Pieces of each product, all lines added up.
type Wanted = BTreeMap<Sku, i64>;

fn add_up(lines: &[WantedLine]) -> Wanted {
    let mut wanted = Wanted::new();
    for line in lines {
        // Neither the number of lines nor their pieces let the sum overflow.
        *wanted.entry(line.sku.clone()).or_default() += line.quantity.pieces();
    }
    wanted
}

/// What a group orders, worked out in memory on copies that this transaction has locked, so that nobody else promises the
/// same pieces, and written at its end.
struct PendingOrders {
    /// With what this group has promised so far.
    copies: BTreeMap<Sku, ProductCopy>,
    held: BTreeSet<Sku>,
    /// Whether the copy had all that its owner has before anything was looked up in it.
    is_complete: bool,
    new: OrderChanges,
    commands: Vec<NewEvent>,
}

impl PendingOrders {
    fn lock(conn: &mut Conn, wanted: &[Wanted]) -> QueryResult<Self> {
        let skus: BTreeSet<&str> = wanted.iter().flat_map(Wanted::keys).map(Sku::as_str).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        // Before the copies: only what a copy lacks that was complete by then is not on its way.
        let is_complete = copy_state::read(conn)?.is_none_or(|copy| copy.is_complete());
        let (free, held) = inventory::lock_free(conn, &skus)?;
        Ok(Self {
            copies: free.into_iter().map(|copy| (copy.sku.clone(), copy)).collect(),
            held,
            is_complete,
            new: OrderChanges::default(),
            commands: Vec::new(),
        })
    }

    fn place(
        &mut self,
        context: &WriteContext,
        one: &GroupedChange<'_, PlaceOrder>,
        wanted: &Wanted,
    ) -> QueryResult<PlaceOutcome> {
        if wanted.keys().any(|sku| self.held.contains(sku)) {
            return Ok(PlaceOutcome::Held);
        }
        let refuse = |(sku, quantity): (&Sku, &i64)| {
            Some((sku.clone(), refusal(sku, *quantity, self.copies.get(sku))?))
        };
        let refused: BTreeMap<Sku, LineRefusal> = wanted.iter().filter_map(refuse).collect();
        if !refused.is_empty() {
            return Ok(PlaceOutcome::Refused(self.refuse(refused)));
        }
        let order = order(context, one.change, wanted);
        self.commands.push(event(&order, one.traceparent)?);
        self.promise(wanted);
        self.new.rows.push(order.row.clone());
        self.new.lines.extend_from_slice(&order.lines);
        self.new.steps.extend_from_slice(&order.steps);
        Ok(PlaceOutcome::Placed(order))
    }

    fn refuse(&self, mut refused: BTreeMap<Sku, LineRefusal>) -> PlaceRefusal {
        if refused.values().any(LineRefusal::may_be_on_its_way) && !self.is_complete {
            refused.retain(|_, refusal| refusal.may_be_on_its_way());
            return PlaceRefusal::Incomplete(refused);
        }
        PlaceRefusal::NotAvailable(refused)
    }

    fn promise(&mut self, wanted: &Wanted) {
        for (sku, quantity) in wanted {
            if let Some(copy) = self.copies.get_mut(sku) {
                // What would not fit was refused.
                copy.reserved = copy.reserved.saturating_add(*quantity);
            }
        }
    }

    /// Writes all of it.
    fn write(self, conn: &mut Conn, context: &WriteContext) -> QueryResult<()> {
        if self.new.rows.is_empty() {
            return Ok(());
        }
        model::insert(conn, &self.new)?;
        reservation::add(conn, &self.new.lines)?;
        context.outbox.append(conn, self.commands).map(drop)
    }
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

fn order(context: &WriteContext, body: &PlaceOrder, wanted: &Wanted) -> Order {
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

fn event(order: &Order, traceparent: Option<&str>) -> QueryResult<NewEvent> {
    let line = |line: &OrderLineRow| OrderLine { sku: line.sku.clone(), quantity: line.quantity };
    let placed = OrderPlaced {
        order_id: order.row.id,
        customer: order.row.customer.clone(),
        lines: order.lines.iter().map(line).collect(),
        placed_at: order.row.placed_us,
    };
    let payload = serde_json::to_string(&placed)
        .map_err(|error| Error::SerializationError(Box::new(error)))?;
    Ok(NewEvent {
        event_type: PLACED,
        key: order.row.id.to_string(),
        version: 0,
        payload,
        traceparent: traceparent.map(str::to_owned),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::db::DbError;
    use stockloop_tests::on_every_database;

    use super::*;
    use crate::inventory::tests::copy_fixture::START;
    use crate::orders::Orders;
    use crate::orders::tests::orders_fixture::{OrdersFixture, body};

    /// What was not there when it was looked up may have arrived, and be the last that was missing.
    async fn what_was_missing_before_the_copy_was_complete_is_not_refused_for_good(
        fixture: &OrdersFixture,
    ) {
        let Orders { env, outbox, signals, .. } = fixture.orders.clone();
        let context = WriteContext { env, outbox, signals, now: START, traceparent: None };
        let place = move |conn: &mut Conn| {
            let order: PlaceOrder = serde_json::from_value(body(&[("LAST", 1)])).unwrap();
            let wanted = add_up(order.lines.as_slice());
            let mut pending = PendingOrders::lock(conn, std::slice::from_ref(&wanted))?;
            let copy = copy_state::read(conn)?.unwrap();
            assert!(copy_state::complete(conn, &copy.copy_id, START, "its owner")?);
            let one = GroupedChange { change: &order, traceparent: None };
            Ok::<_, DbError>(pending.place(&context, &one, &wanted)?)
        };
        let outcome = fixture.write(place).await;
        let is_incomplete = matches!(outcome, PlaceOutcome::Refused(PlaceRefusal::Incomplete(_)));
        assert!(is_incomplete, "{outcome:?}");
    }

    on_every_database!(&OrdersFixture::new =>
        what_was_missing_before_the_copy_was_complete_is_not_refused_for_good,
    );
}
