//! An order's status follows the status of its commands, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::NewEvent;
use common::inventory::Sku;
use common::orders::{CANCELLED, Deduction, OrderId, PLACED, Refusal, Return};
use common::signals::Signals;
use diesel::QueryResult;
use engine::outbox::{EventChange, EventUpdate, Listener, Outbox};
use serde::de::DeserializeOwned;

use super::model::{self, OrderChanges, OrderLineRow, OrderRow, OrderStepRow};
use super::reservation::{self, StockOutcome};
use super::{Cancellation, Placement, cancel};

/// Why an order that nobody could confirm is cancelled.
const GIVEN_UP: &str = "given up: its placing was resolved by an operator";

/// Moves orders on with the status of their commands.
pub struct OrdersListener {
    outbox: Outbox,
    signals: Signals,
}

impl OrdersListener {
    /// Puts cancellations that follow from a resolution into `outbox`, and tells changes to `signals`.
    pub fn new(outbox: Outbox, signals: Signals) -> Self {
        Self { outbox, signals }
    }
}

impl std::fmt::Debug for OrdersListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrdersListener")
    }
}

impl Listener for OrdersListener {
    fn listens_to(&self, event_type: &str) -> bool {
        event_type == PLACED.name || event_type == CANCELLED.name
    }

    fn on_updates(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        updates: &[EventUpdate],
    ) -> QueryResult<()> {
        let ids: BTreeSet<OrderId> = updates.iter().filter_map(order_of).collect();
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let mut orders = OrderUpdates::new(now, model::lock(conn, &ids)?);
        for update in updates {
            orders.apply(update)?;
        }
        for id in &orders.changed {
            self.signals.touch(&id.to_string());
        }
        orders.write(conn, &self.outbox)
    }

    fn committed(&self) {
        self.signals.publish();
    }
}

fn order_of(update: &EventUpdate) -> Option<OrderId> {
    update.event.key.parse().ok()
}

/// What the updates change, worked out in memory on orders that this transaction has locked, and written at its end.
struct OrderUpdates {
    now: Timestamp,
    orders: BTreeMap<OrderId, OrderRow>,
    changed: BTreeSet<OrderId>,
    steps: Vec<OrderStepRow>,
    /// What answers said of lines, by order and product; the quantity stays 0 and is not written.
    lines: BTreeMap<(OrderId, Sku), OrderLineRow>,
    outcomes: BTreeMap<OrderId, StockOutcome>,
    /// Cancellations that follow.
    commands: Vec<NewEvent>,
}

impl OrderUpdates {
    fn new(now: Timestamp, rows: Vec<OrderRow>) -> Self {
        Self {
            now,
            orders: rows.into_iter().map(|row| (row.id, row)).collect(),
            changed: BTreeSet::new(),
            steps: Vec::new(),
            lines: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            commands: Vec::new(),
        }
    }

    fn apply(&mut self, update: &EventUpdate) -> QueryResult<()> {
        let known = order_of(update).and_then(|id| self.orders.get(&id)).cloned();
        let Some(mut row) = known else {
            tracing::error!(key = update.event.key, "a command names an order that is not there");
            return Ok(());
        };
        match update.event.event_type.as_str() {
            name if name == PLACED.name => self.placing(&mut row, &update.change)?,
            name if name == CANCELLED.name => self.cancelling(&mut row, &update.change),
            other => tracing::error!(other, "no command of an order"),
        }
        self.orders.insert(row.id, row);
        Ok(())
    }

    /// `stockloop.order.placed` has a new status.
    fn placing(&mut self, row: &mut OrderRow, change: &EventChange) -> QueryResult<()> {
        match change {
            EventChange::Succeeded { result } => {
                row.placement = Placement::Confirmed;
                if let Some(deduction) = read_result::<Deduction>(row, result.as_deref()) {
                    self.taken(row, deduction);
                }
                self.step(row, "stock deducted", None);
            }
            EventChange::Rejected { result } => {
                row.placement = Placement::Rejected;
                let refusal = read_result::<Refusal>(row, result.as_deref());
                let note = match &refusal {
                    Some(Refusal { cancelled: true, .. }) => "the cancellation came first",
                    _ => "the owner of the stock refused it",
                };
                self.refused(row, refusal);
                self.step(row, "placing rejected", Some(note));
            }
            EventChange::Exhausted { error } => {
                row.placement = Placement::Exhausted;
                self.step(row, "placing failed", Some(error));
            }
            EventChange::Retried { by, reason } => {
                row.placement = Placement::Open;
                self.step(row, "placing retried", Some(&by_operator(by, reason)));
            }
            EventChange::Resolved { by, reason } if row.cancellation.is_some() => {
                self.step(row, "placing resolved", Some(&by_operator(by, reason)));
            }
            EventChange::Resolved { by, reason } => self.give_up(row, &by_operator(by, reason))?,
            EventChange::Retrying => {}
        }
        Ok(())
    }

    /// `stockloop.order.cancelled` has a new status.
    fn cancelling(&mut self, row: &mut OrderRow, change: &EventChange) {
        match change {
            EventChange::Succeeded { result } => {
                row.cancellation = Some(Cancellation::Done);
                match read_result::<Return>(row, result.as_deref()) {
                    Some(Return { deducted: Some(deduction), .. }) => self.taken(row, deduction),
                    Some(Return { deducted: None, .. }) => {
                        self.set_outcome(row.id, StockOutcome::NotTaken);
                    }
                    None => {}
                }
                self.step(row, "cancelled", None);
            }
            EventChange::Rejected { result } => {
                row.cancellation = Some(Cancellation::Rejected);
                let refusal = read_result::<Refusal>(row, result.as_deref());
                self.refused(row, refusal);
                let note =
                    "the owner of the stock had refused the order, so there was nothing to cancel";
                self.step(row, "cancellation rejected", Some(note));
            }
            EventChange::Exhausted { error } => {
                row.cancellation = Some(Cancellation::Exhausted);
                self.step(row, "cancellation failed", Some(error));
            }
            EventChange::Retried { by, reason } => {
                row.cancellation = Some(Cancellation::Open);
                self.step(row, "cancellation retried", Some(&by_operator(by, reason)));
            }
            EventChange::Resolved { by, reason } => {
                row.cancellation = Some(Cancellation::Resolved);
                self.set_outcome(row.id, StockOutcome::ResolvedByOperator);
                self.step(row, "cancellation resolved", Some(&by_operator(by, reason)));
            }
            EventChange::Retrying => {}
        }
    }

    /// Nobody knows whether the stock was taken, and nobody will ask any more: the cancellation makes it right.
    fn give_up(&mut self, row: &mut OrderRow, note: &str) -> QueryResult<()> {
        self.step(row, "placing resolved", Some(note));
        let step = cancel::begin(row, self.now, Some(GIVEN_UP));
        self.steps.push(step);
        self.commands.push(cancel::event(row, Some(GIVEN_UP), self.now, None)?);
        Ok(())
    }

    fn taken(&mut self, row: &OrderRow, deduction: Deduction) {
        for (sku, version) in &deduction.versions {
            let line = self.line(row.id, sku);
            line.version = Some(*version);
        }
        self.set_outcome(row.id, StockOutcome::Taken(deduction));
    }

    fn refused(&mut self, row: &OrderRow, refusal: Option<Refusal>) {
        for refused in refusal.into_iter().flat_map(|refusal| refusal.lines) {
            let line = self.line(row.id, &refused.sku);
            line.reason = Some(refused.reason.name().to_owned());
            line.detail = Some(refused.detail.replace('\0', "\u{fffd}"));
        }
        self.set_outcome(row.id, StockOutcome::NotTaken);
    }

    fn line(&mut self, order_id: OrderId, sku: &Sku) -> &mut OrderLineRow {
        self.lines.entry((order_id, sku.clone())).or_insert_with(|| OrderLineRow {
            order_id,
            sku: sku.clone(),
            quantity: 0,
            version: None,
            reason: None,
            detail: None,
        })
    }

    /// A clear answer is not overruled by an operator's resolution.
    fn set_outcome(&mut self, order: OrderId, outcome: StockOutcome) {
        if outcome != StockOutcome::ResolvedByOperator || !self.outcomes.contains_key(&order) {
            self.outcomes.insert(order, outcome);
        }
    }

    fn step(&mut self, row: &mut OrderRow, what: &str, note: Option<&str>) {
        self.steps.push(row.step(self.now, what, note));
        self.changed.insert(row.id);
    }

    fn write(mut self, conn: &mut Conn, outbox: &Outbox) -> QueryResult<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let rows = self.changed.iter().filter_map(|id| self.orders.remove(id)).collect();
        let lines = self.lines.into_values().collect();
        model::save(conn, &OrderChanges { rows, steps: self.steps, lines })?;
        reservation::on_stock_outcomes(conn, &self.outcomes)?;
        outbox.append(conn, self.commands).map(drop)
    }
}

/// What an answer carries; one that can't be read counts as none, since the verdict stands without it.
fn read_result<T: DeserializeOwned>(row: &OrderRow, result: Option<&str>) -> Option<T> {
    match serde_json::from_str(result?) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(order = %row.id, %error, "the result of an answer can't be read");
            None
        }
    }
}

/// Which operator acted and why, in words.
fn by_operator(by: &Option<String>, reason: &Option<String>) -> String {
    let by = by.as_deref().unwrap_or("an unknown operator");
    match reason {
        Some(reason) => format!("by {by}: {reason}"),
        None => format!("by {by}"),
    }
}
