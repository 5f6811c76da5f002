//! What becomes of an order's commands moves the order on, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::inventory::Sku;
use common::orders::{CANCELLED, Deduction, OrderId, PLACED, Refusal, Return};
use common::outbox::{Became, Listener, NewEvent, Outbox, Turn};
use common::signals::Signals;
use diesel::QueryResult;
use serde::de::DeserializeOwned;

use super::model::{self, OrderLineRow, OrderRow, OrderStep, Saved};
use super::reservation::{self, Word};
use super::{Cancellation, Placement, cancel};

/// Why an order that nobody could confirm is cancelled.
const GIVEN_UP: &str = "given up: its placing was resolved by an operator";

/// Moves orders on with what becomes of their commands.
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

    fn hear(&self, conn: &mut Conn, now: Timestamp, turns: &[Turn]) -> QueryResult<()> {
        let mut ids: BTreeSet<OrderId> = BTreeSet::new();
        ids.extend(turns.iter().filter_map(order_of));
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let rows = model::lock(conn, &ids)?;
        let mut work = Work::new(now, rows);
        for turn in turns {
            work.take(turn)?;
        }
        for id in &work.changed {
            self.signals.touch(&id.to_string());
        }
        work.write(conn, &self.outbox)
    }

    fn committed(&self) {
        self.signals.publish();
    }
}

fn order_of(turn: &Turn) -> Option<OrderId> {
    turn.event.key.parse().ok()
}

/// Orders in hand, and what becomes of them.
struct Work {
    now: Timestamp,
    orders: BTreeMap<OrderId, OrderRow>,
    changed: BTreeSet<OrderId>,
    steps: Vec<OrderStep>,
    /// What answers said of lines, by order and product; the quantity is filled in by nobody.
    lines: BTreeMap<(OrderId, Sku), OrderLineRow>,
    words: BTreeMap<OrderId, Word>,
    commands: Vec<NewEvent>,
}

impl Work {
    fn new(now: Timestamp, rows: Vec<OrderRow>) -> Self {
        Self {
            now,
            orders: rows.into_iter().map(|row| (row.id, row)).collect(),
            changed: BTreeSet::new(),
            steps: Vec::new(),
            lines: BTreeMap::new(),
            words: BTreeMap::new(),
            commands: Vec::new(),
        }
    }

    fn take(&mut self, turn: &Turn) -> QueryResult<()> {
        let known = order_of(turn).and_then(|id| self.orders.get(&id)).cloned();
        let Some(mut row) = known else {
            tracing::error!(key = turn.event.key, "a command names an order that is not there");
            return Ok(());
        };
        if turn.event.event_type == PLACED.name {
            self.placing(&mut row, &turn.became)?;
        } else {
            self.cancelling(&mut row, &turn.became);
        }
        self.orders.insert(row.id, row);
        Ok(())
    }

    /// What became of `order.placed`.
    fn placing(&mut self, row: &mut OrderRow, became: &Became) -> QueryResult<()> {
        match became {
            Became::Succeeded { result } => {
                row.placement = Placement::Confirmed;
                if let Some(taken) = said::<Deduction>(row, result.as_deref()) {
                    self.taken(row, taken);
                }
                self.step(row, "stock deducted", None);
            }
            Became::Rejected { result } => {
                row.placement = Placement::Rejected;
                let refusal = said::<Refusal>(row, result.as_deref());
                let note = match &refusal {
                    Some(Refusal { cancelled: true, .. }) => "the cancellation came first",
                    _ => "the owner of the stock refused it",
                };
                self.refused(row, refusal);
                self.step(row, "placing rejected", Some(note));
            }
            Became::Exhausted { error } => {
                row.placement = Placement::Exhausted;
                self.step(row, "placing failed", Some(error));
            }
            Became::Retried { by, reason } => {
                row.placement = Placement::Open;
                self.step(row, "placing retried", Some(&acted(by, reason)));
            }
            Became::Resolved { by, reason } if row.cancellation.is_some() => {
                self.step(row, "placing resolved", Some(&acted(by, reason)));
            }
            Became::Resolved { by, reason } => self.give_up(row, &acted(by, reason))?,
            Became::Again => {}
        }
        Ok(())
    }

    /// What became of `order.cancelled`.
    fn cancelling(&mut self, row: &mut OrderRow, became: &Became) {
        match became {
            Became::Succeeded { result } => {
                row.cancellation = Some(Cancellation::Done);
                match said::<Return>(row, result.as_deref()) {
                    Some(Return { deducted: Some(taken), .. }) => self.taken(row, taken),
                    Some(Return { deducted: None, .. }) => self.say(row.id, Word::Nothing),
                    None => {}
                }
                self.step(row, "cancelled", None);
            }
            Became::Rejected { result } => {
                row.cancellation = Some(Cancellation::Rejected);
                let refusal = said::<Refusal>(row, result.as_deref());
                self.refused(row, refusal);
                let note =
                    "the owner of the stock had refused the order, so there was nothing to cancel";
                self.step(row, "cancellation rejected", Some(note));
            }
            Became::Exhausted { error } => {
                row.cancellation = Some(Cancellation::Exhausted);
                self.step(row, "cancellation failed", Some(error));
            }
            Became::Retried { by, reason } => {
                row.cancellation = Some(Cancellation::Open);
                self.step(row, "cancellation retried", Some(&acted(by, reason)));
            }
            Became::Resolved { by, reason } => {
                row.cancellation = Some(Cancellation::Resolved);
                self.say(row.id, Word::DealtWith);
                self.step(row, "cancellation resolved", Some(&acted(by, reason)));
            }
            Became::Again => {}
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

    fn taken(&mut self, row: &OrderRow, taken: Deduction) {
        for (sku, version) in &taken.versions {
            let line = self.line(row.id, sku);
            line.version = Some(*version);
        }
        self.say(row.id, Word::Taken(taken));
    }

    fn refused(&mut self, row: &OrderRow, refusal: Option<Refusal>) {
        for refused in refusal.into_iter().flat_map(|refusal| refusal.lines) {
            let line = self.line(row.id, &refused.sku);
            line.reason = Some(refused.reason.name().to_owned());
            line.detail = Some(refused.detail.replace('\0', "\u{fffd}"));
        }
        self.say(row.id, Word::Nothing);
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

    /// A clear answer is not overruled by a person's word.
    fn say(&mut self, order: OrderId, word: Word) {
        if word != Word::DealtWith || !self.words.contains_key(&order) {
            self.words.insert(order, word);
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
        model::save(conn, &Saved { rows, steps: self.steps, lines })?;
        reservation::heard(conn, &self.words)?;
        outbox.append(conn, self.commands).map(drop)
    }
}

/// What an answer carries; one that can't be read counts as none, since the verdict stands without it.
fn said<T: DeserializeOwned>(row: &OrderRow, result: Option<&str>) -> Option<T> {
    match serde_json::from_str(result?) {
        Ok(said) => Some(said),
        Err(error) => {
            tracing::warn!(order = %row.id, %error, "the result of an answer can't be read");
            None
        }
    }
}

/// Who acted and why, in words.
fn acted(by: &Option<String>, reason: &Option<String>) -> String {
    let by = by.as_deref().unwrap_or("nobody in particular");
    match reason {
        Some(reason) => format!("by {by}: {reason}"),
        None => format!("by {by}"),
    }
}
