//! Commands on the stock: all rows locked at once, worked out in memory in the order of arrival, written set-based.
//!
//! Locks are taken orders first (by id), then products (by SKU), here as everywhere.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::inbox::{Answer, ApplyError, Detail, Handler, Incoming};
use common::inventory::Sku;
use common::orders::{CANCELLED, OrderId, PLACED, Refusal};
use common::outbox::{NewEvent, Outbox};
use diesel::result::{DatabaseErrorKind, Error};

use super::answer;
use super::model::{self, Deducted, OrderRecord, State};
use super::read::{Command, Unusable, Wish, read};
use crate::inventory::{self, Product};

/// Carries out both order commands, and tells every change of stock as an inventory event of its own.
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
        events: &[Incoming],
    ) -> Result<Vec<Answer>, ApplyError> {
        let commands: Vec<Result<Command, Unusable>> = events.iter().map(read).collect();
        let mut work = Work::lock(conn, now, commands.iter().flatten())?;
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(match command {
                Ok(command) => work.carry_out(command)?,
                Err(unusable) => Answer::Failed { error: unusable.to_string(), retryable: false },
            });
        }
        work.write(conn, &self.outbox)?;
        Ok(answers)
    }
}

/// An order in hand.
struct Order {
    record: OrderRecord,
    deducted: BTreeMap<Sku, Deducted>,
    /// Whether its row is still to be added.
    is_new: bool,
}

/// What a batch does, worked out on rows that this transaction has locked.
struct Work {
    now: Timestamp,
    epoch: i64,
    products: BTreeMap<Sku, Product>,
    orders: BTreeMap<OrderId, Order>,
    changed_products: BTreeSet<Sku>,
    changed_orders: BTreeSet<OrderId>,
    events: Vec<NewEvent>,
}

impl Work {
    fn lock<'a>(
        conn: &mut Conn,
        now: Timestamp,
        commands: impl Iterator<Item = &'a Command> + Clone,
    ) -> Result<Self, ApplyError> {
        let ids: BTreeSet<OrderId> = commands.clone().map(|command| command.order).collect();
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let orders = known(conn, &ids)?;
        let mut skus: BTreeSet<&Sku> = BTreeSet::new();
        for command in commands {
            match &command.wish {
                Wish::Take(wanted) => skus.extend(wanted.keys()),
                Wish::GiveBack => {
                    skus.extend(orders.get(&command.order).iter().flat_map(|o| o.deducted.keys()));
                }
            }
        }
        let skus: Vec<&str> = skus.into_iter().map(Sku::as_str).collect();
        let products = inventory::lock_all(conn, &skus)?;
        Ok(Self {
            now,
            epoch: Outbox::epoch(conn)?,
            products: products.into_iter().map(|row| (row.sku.clone(), row)).collect(),
            orders,
            changed_products: BTreeSet::new(),
            changed_orders: BTreeSet::new(),
            events: Vec::new(),
        })
    }

    fn carry_out(&mut self, command: Command) -> Result<Answer, ApplyError> {
        let known = self.orders.get(&command.order);
        match (&command.wish, known.map(|order| order.record.state)) {
            (Wish::Take(wanted), None) => self.take(&command, wanted),
            (Wish::Take(_), Some(_)) => self.answer(&command, Detail::Duplicate),
            (Wish::GiveBack, None) => {
                let record = self.record(command.order, State::Cancelled);
                self.add(record, BTreeMap::new());
                self.answer(&command, Detail::Applied)
            }
            (Wish::GiveBack, Some(State::Deducted)) => self.give_back(&command),
            (Wish::GiveBack, Some(_)) => self.answer(&command, Detail::Duplicate),
        }
    }

    /// Deducts all lines, or none.
    fn take(
        &mut self,
        command: &Command,
        wanted: &BTreeMap<Sku, i64>,
    ) -> Result<Answer, ApplyError> {
        let mut after = Vec::with_capacity(wanted.len());
        let mut refused = Vec::new();
        for (sku, quantity) in wanted {
            match self.changed(sku, -quantity) {
                Ok(product) => after.push(product),
                Err(refusal) => refused.push(answer::refused_line(sku, &refusal)),
            }
        }
        if !refused.is_empty() {
            let refusal = answer::json(&Refusal { lines: refused, cancelled: false })?;
            let record = self.record(command.order, State::Refused);
            let record = OrderRecord { refusal: Some(refusal.to_string()), ..record };
            self.add(record, BTreeMap::new());
            return self.answer(command, Detail::Applied);
        }
        let mut deducted = BTreeMap::new();
        for (product, (sku, quantity)) in after.into_iter().zip(wanted) {
            let row = Deducted {
                order_id: command.order,
                sku: sku.clone(),
                quantity: *quantity,
                version: product.version,
                returned_version: None,
            };
            deducted.insert(sku.clone(), row);
            self.tell(command, product, "placed")?;
        }
        self.add(self.record(command.order, State::Deducted), deducted);
        self.answer(command, Detail::Applied)
    }

    /// Gives back what was taken; a product that was removed meanwhile has no stock that it could go to.
    fn give_back(&mut self, command: &Command) -> Result<Answer, ApplyError> {
        let Some(mut order) = self.orders.remove(&command.order) else {
            return Err(ApplyError::Flawed("lost an order that it had in hand".to_owned()));
        };
        let mut after = Vec::new();
        for row in order.deducted.values() {
            match self.changed(&row.sku, row.quantity) {
                Ok(product) => after.push(product),
                Err(inventory::Refusal::Removed { .. } | inventory::Refusal::Unknown(_)) => {}
                Err(refusal) => {
                    // An adjustment may make room: this is the stock's fault, not the command's.
                    self.orders.insert(command.order, order);
                    return Ok(Answer::Failed { error: refusal.to_string(), retryable: true });
                }
            }
        }
        for product in after {
            if let Some(row) = order.deducted.get_mut(&product.sku) {
                row.returned_version = Some(product.version);
            }
            self.tell(command, product, "cancelled")?;
        }
        order.record.state = State::Returned;
        order.record.cancelled_us = Some(self.now);
        self.orders.insert(command.order, order);
        self.changed_orders.insert(command.order);
        self.answer(command, Detail::Applied)
    }

    /// The product with `delta` pieces more, if it may have them.
    fn changed(&self, sku: &Sku, delta: i64) -> Result<Product, inventory::Refusal> {
        inventory::present(self.products.get(sku).cloned(), sku)?.adjusted(delta, self.now)
    }

    fn tell(&mut self, command: &Command, product: Product, why: &str) -> Result<(), ApplyError> {
        let cause = inventory::of_order(command.order, why);
        self.events.push(inventory::event(&product, cause, command.traceparent.clone())?);
        self.changed_products.insert(product.sku.clone());
        self.products.insert(product.sku.clone(), product);
        Ok(())
    }

    fn record(&self, id: OrderId, state: State) -> OrderRecord {
        let cancelled_us = (state == State::Cancelled).then_some(self.now);
        OrderRecord {
            id,
            state,
            epoch: self.epoch,
            refusal: None,
            handled_us: self.now,
            cancelled_us,
        }
    }

    fn add(&mut self, record: OrderRecord, deducted: BTreeMap<Sku, Deducted>) {
        self.changed_orders.insert(record.id);
        self.orders.insert(record.id, Order { record, deducted, is_new: true });
    }

    fn answer(&self, command: &Command, detail: Detail) -> Result<Answer, ApplyError> {
        let Some(order) = self.orders.get(&command.order) else {
            return Err(ApplyError::Flawed("answers for an order without a row".to_owned()));
        };
        match command.wish {
            Wish::Take(_) => answer::to_placing(&order.record, &order.deducted, detail),
            Wish::GiveBack => answer::to_cancelling(&order.record, &order.deducted, detail),
        }
    }

    fn write(self, conn: &mut Conn, outbox: &Outbox) -> Result<(), ApplyError> {
        let (mut new, mut changed) = (Rows::default(), Rows::default());
        let orders = self.orders.into_values();
        for order in orders.filter(|order| self.changed_orders.contains(&order.record.id)) {
            let rows = if order.is_new { &mut new } else { &mut changed };
            rows.records.push(order.record);
            rows.deducted.extend(order.deducted.into_values());
        }
        model::insert(conn, &new.records, &new.deducted).map_err(raced)?;
        model::update(conn, &changed.records, &changed.deducted)?;
        let products: Vec<&Product> =
            self.changed_products.iter().filter_map(|sku| self.products.get(sku)).collect();
        if !products.is_empty() {
            inventory::update_stock(conn, &products)?;
        }
        outbox.append(conn, self.events)?;
        Ok(())
    }
}

#[derive(Default)]
struct Rows {
    records: Vec<OrderRecord>,
    deducted: Vec<Deducted>,
}

fn known(conn: &mut Conn, ids: &[OrderId]) -> Result<BTreeMap<OrderId, Order>, ApplyError> {
    let mut orders: BTreeMap<OrderId, Order> = model::lock(conn, ids)?
        .into_iter()
        .map(|record| (record.id, Order { record, deducted: BTreeMap::new(), is_new: false }))
        .collect();
    for row in model::deductions(conn, ids)? {
        if let Some(order) = orders.get_mut(&row.order_id) {
            order.deducted.insert(row.sku.clone(), row);
        }
    }
    Ok(orders)
}

/// The same order in two hands (after a rebalance): the loser repeats its batch and finds the row.
fn raced(error: Error) -> ApplyError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => ApplyError::Raced,
        other => ApplyError::Query(other),
    }
}
