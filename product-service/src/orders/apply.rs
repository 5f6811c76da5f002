//! Commands on the stock: all rows locked at once, worked out in memory in the order of arrival, written set-based.
//!
//! Locks are taken orders first (by id), then products (by SKU), here as everywhere.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{Event, NewEvent};
use common::inventory::Sku;
use common::orders::{CANCELLED, OrderId, PLACED, Refusal};
use diesel::result::{DatabaseErrorKind, Error};
use engine::batch::BatchError;
use engine::inbox::{Detail, Handler, HandlerOutcome};
use engine::outbox::Outbox;
use engine::retention::may_be_forgotten;

use super::incoming::{Command, InvalidCommand, StockRequest};
use super::model::{self, OrderDeduction, OrderRecord, OrderState};
use super::outcome;
use crate::inventory::{self, ChangeRefusal, Product};
use crate::retention;

/// Carries out both order commands; every change of stock is an inventory event of its own.
#[derive(Clone)]
pub struct OrdersHandler {
    outbox: Outbox,
}

impl OrdersHandler {
    /// Puts the inventory events that orders cause into `outbox`.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox }
    }
}

impl Handler for OrdersHandler {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == PLACED.name || event_type == CANCELLED.name
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        let commands: Vec<Result<Command, InvalidCommand>> =
            events.iter().map(Command::read).collect();
        let mut changes = StockChanges::lock(conn, now, commands.iter().flatten())?;
        let mut results = Vec::with_capacity(commands.len());
        for command in commands {
            results.push(match command {
                Ok(command) => changes.carry_out(command)?,
                Err(invalid) => {
                    HandlerOutcome::Failed { error: invalid.to_string(), retryable: false }
                }
            });
        }
        changes.write(conn, &self.outbox)?;
        Ok(results)
    }
}

/// An order that this batch works on.
struct Order {
    record: OrderRecord,
    deductions: BTreeMap<Sku, OrderDeduction>,
    /// Whether its row is still to be added.
    is_new: bool,
}

/// What a batch changes, worked out in memory on rows that this transaction has locked, and written at its end.
struct StockChanges {
    now: Timestamp,
    epoch: i64,
    /// Orders below this id may be forgotten.
    first_known: Option<OrderId>,
    products: BTreeMap<Sku, Product>,
    orders: BTreeMap<OrderId, Order>,
    changed_products: BTreeSet<Sku>,
    changed_orders: BTreeSet<OrderId>,
    events: Vec<NewEvent>,
}

impl StockChanges {
    fn lock<'a>(
        conn: &mut Conn,
        now: Timestamp,
        commands: impl Iterator<Item = &'a Command> + Clone,
    ) -> Result<Self, BatchError> {
        let ids: BTreeSet<OrderId> = commands.clone().map(|command| command.order).collect();
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let orders = known_orders(conn, &ids)?;
        let mut skus: BTreeSet<&Sku> = BTreeSet::new();
        for command in commands {
            match &command.request {
                StockRequest::Take(wanted) => skus.extend(wanted.keys()),
                StockRequest::Return => {
                    if let Some(order) = orders.get(&command.order) {
                        skus.extend(order.deductions.keys());
                    }
                }
            }
        }
        let skus: Vec<&str> = skus.into_iter().map(Sku::as_str).collect();
        let products = inventory::lock_all(conn, &skus)?;
        let unknown = |id: &&OrderId| !orders.contains_key(*id);
        let first_known = match ids.iter().find(unknown) {
            // The ids are sorted: the first one is the oldest.
            Some(id) if may_be_forgotten(*id, now) => retention::first_known_order(conn)?,
            _ => None,
        };
        Ok(Self {
            now,
            epoch: Outbox::epoch(conn)?,
            first_known,
            products: products.into_iter().map(|row| (row.sku.clone(), row)).collect(),
            orders,
            changed_products: BTreeSet::new(),
            changed_orders: BTreeSet::new(),
            events: Vec::new(),
        })
    }

    fn carry_out(&mut self, command: Command) -> Result<HandlerOutcome, BatchError> {
        let state = self.orders.get(&command.order).map(|order| order.record.state);
        match (&command.request, state) {
            (_, None) if self.first_known.is_some_and(|first| command.order < first) => {
                Ok(forgotten(command.order))
            }
            (StockRequest::Take(wanted), None) => self.take(&command, wanted),
            (StockRequest::Take(_), Some(_)) => self.result(&command, Detail::Duplicate),
            (StockRequest::Return, None) => {
                let record = self.record(command.order, OrderState::Cancelled);
                self.add(record, BTreeMap::new());
                self.result(&command, Detail::Applied)
            }
            (StockRequest::Return, Some(OrderState::Deducted)) => self.return_stock(&command),
            (StockRequest::Return, Some(_)) => self.result(&command, Detail::Duplicate),
        }
    }

    /// Deducts all lines, or none.
    fn take(
        &mut self,
        command: &Command,
        wanted: &BTreeMap<Sku, i64>,
    ) -> Result<HandlerOutcome, BatchError> {
        let mut products = Vec::with_capacity(wanted.len());
        let mut refused = Vec::new();
        for (sku, quantity) in wanted {
            match self.adjusted(sku, -quantity) {
                Ok(product) => products.push(product),
                Err(refusal) => refused.push(outcome::refused_line(sku, &refusal)),
            }
        }
        if !refused.is_empty() {
            let refusal = outcome::to_json(&Refusal { lines: refused, cancelled: false })?;
            let record = self.record(command.order, OrderState::Refused);
            let record = OrderRecord { refusal: Some(refusal.to_string()), ..record };
            self.add(record, BTreeMap::new());
            return self.result(command, Detail::Applied);
        }
        let mut deductions = BTreeMap::new();
        for (product, (sku, quantity)) in products.into_iter().zip(wanted) {
            let row = OrderDeduction {
                order_id: command.order,
                sku: sku.clone(),
                quantity: *quantity,
                version: product.version,
                returned_version: None,
            };
            deductions.insert(sku.clone(), row);
            self.change(command, product, "placed")?;
        }
        self.add(self.record(command.order, OrderState::Deducted), deductions);
        self.result(command, Detail::Applied)
    }

    /// Gives back what was taken; a product that was removed meanwhile has no stock that it could go to.
    fn return_stock(&mut self, command: &Command) -> Result<HandlerOutcome, BatchError> {
        let Some(mut order) = self.orders.remove(&command.order) else {
            return Err(BatchError::Flawed("is missing an order that it locked".to_owned()));
        };
        let mut products = Vec::new();
        for row in order.deductions.values() {
            match self.adjusted(&row.sku, row.quantity) {
                Ok(product) => products.push(product),
                Err(ChangeRefusal::Removed { .. } | ChangeRefusal::Unknown(_)) => {}
                Err(refusal) => {
                    // An adjustment may make room: this is the stock's fault, not the command's.
                    self.orders.insert(command.order, order);
                    return Ok(HandlerOutcome::Failed {
                        error: refusal.to_string(),
                        retryable: true,
                    });
                }
            }
        }
        for product in products {
            if let Some(row) = order.deductions.get_mut(&product.sku) {
                row.returned_version = Some(product.version);
            }
            self.change(command, product, "cancelled")?;
        }
        order.record.state = OrderState::Returned;
        order.record.cancelled_us = Some(self.now);
        self.orders.insert(command.order, order);
        self.changed_orders.insert(command.order);
        self.result(command, Detail::Applied)
    }

    /// The product with `delta` pieces more, if it may have them.
    fn adjusted(&self, sku: &Sku, delta: i64) -> Result<Product, ChangeRefusal> {
        inventory::existing(self.products.get(sku).cloned(), sku)?.adjusted(delta, self.now)
    }

    /// Takes over the changed `product`, with its event.
    fn change(&mut self, command: &Command, product: Product, why: &str) -> Result<(), BatchError> {
        let cause = inventory::cause_of_order(command.order, why);
        self.events.push(inventory::event(&product, cause, command.traceparent.clone())?);
        self.changed_products.insert(product.sku.clone());
        self.products.insert(product.sku.clone(), product);
        Ok(())
    }

    fn record(&self, id: OrderId, state: OrderState) -> OrderRecord {
        let cancelled_us = (state == OrderState::Cancelled).then_some(self.now);
        OrderRecord {
            id,
            state,
            epoch: self.epoch,
            refusal: None,
            handled_us: self.now,
            cancelled_us,
        }
    }

    fn add(&mut self, record: OrderRecord, deductions: BTreeMap<Sku, OrderDeduction>) {
        self.changed_orders.insert(record.id);
        self.orders.insert(record.id, Order { record, deductions, is_new: true });
    }

    fn result(&self, command: &Command, detail: Detail) -> Result<HandlerOutcome, BatchError> {
        let Some(Order { record, deductions, .. }) = self.orders.get(&command.order) else {
            return Err(BatchError::Flawed("answers for an order without a row".to_owned()));
        };
        match command.request {
            StockRequest::Take(_) => outcome::of_placing(record, deductions, detail),
            StockRequest::Return => outcome::of_cancelling(record, deductions, detail),
        }
    }

    fn write(self, conn: &mut Conn, outbox: &Outbox) -> Result<(), BatchError> {
        let (mut new, mut changed) = (OrderRows::default(), OrderRows::default());
        let orders = self.orders.into_values();
        for order in orders.filter(|order| self.changed_orders.contains(&order.record.id)) {
            let rows = if order.is_new { &mut new } else { &mut changed };
            rows.records.push(order.record);
            rows.deductions.extend(order.deductions.into_values());
        }
        model::insert(conn, &new.records, &new.deductions).map_err(raced)?;
        model::update(conn, &changed.records, &changed.deductions)?;
        let products: Vec<&Product> =
            self.changed_products.iter().filter_map(|sku| self.products.get(sku)).collect();
        if !products.is_empty() {
            inventory::update_stock(conn, &products)?;
        }
        outbox.append(conn, self.events)?;
        Ok(())
    }
}

/// To carry it out may be to do so for the second time.
fn forgotten(order: OrderId) -> HandlerOutcome {
    HandlerOutcome::Failed {
        error: format!(
            "the order {order} is older than what is kept of orders (retention.orders), so it is not known whether it \
             was carried out before; correct the stock by hand and resolve this event"
        ),
        retryable: false,
    }
}

/// Rows of `order_record` and `order_deduction` that are to be written.
#[derive(Default)]
struct OrderRows {
    records: Vec<OrderRecord>,
    deductions: Vec<OrderDeduction>,
}

/// The orders of `ids` that there are, locked.
fn known_orders(conn: &mut Conn, ids: &[OrderId]) -> Result<BTreeMap<OrderId, Order>, BatchError> {
    let mut orders: BTreeMap<OrderId, Order> = model::lock(conn, ids)?
        .into_iter()
        .map(|record| (record.id, Order { record, deductions: BTreeMap::new(), is_new: false }))
        .collect();
    for row in model::deductions(conn, ids)? {
        if let Some(order) = orders.get_mut(&row.order_id) {
            order.deductions.insert(row.sku.clone(), row);
        }
    }
    Ok(orders)
}

/// Two consumers had the same order (after a rebalance): the loser repeats its batch and finds the row.
fn raced(error: Error) -> BatchError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => BatchError::Raced,
        other => BatchError::Query(other),
    }
}
