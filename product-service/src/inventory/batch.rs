//! A batch of adjustments: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::NewEvent;
use common::http::Precondition;
use common::inventory::Sku;
use diesel::QueryResult;
use engine::outbox::Outbox;

use super::model::{self, NewAdjustment};
use super::{
    Adjustment, AdjustmentLines, ChangeError, ChangeRefusal, Product, WriteContext, events,
    existing,
};

/// A line of a batch that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdjustedLine {
    /// The product's version after this line.
    pub version: i64,
    /// Pieces in stock after this line.
    pub quantity: i64,
}

/// What became of a line: its product, and why not if it was refused.
pub type LineOutcome = (Sku, Result<AdjustedLine, ChangeRefusal>);

/// Adjusts the lines in order; a refused line writes nothing, the others stand.
///
/// Each line that is done is a version and an event of its own. The outcomes are in the order of the lines.
///
/// # Errors
/// When a statement fails; then the whole batch has to be rolled back.
pub fn adjust_batch(
    conn: &mut Conn,
    context: &WriteContext,
    lines: AdjustmentLines,
) -> Result<Vec<LineOutcome>, ChangeError> {
    let lines = lines.into_inner();
    let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let mut pending = PendingAdjustments::of(model::lock_all(conn, &skus)?, context.now);
    let mut outcomes = Vec::with_capacity(lines.len());
    for line in lines {
        let (sku, adjustment) = line.split();
        let (any, traceparent) = (Precondition::default(), context.traceparent.clone());
        let outcome = pending.adjust(&sku, adjustment, &any, traceparent)?;
        outcomes.push((sku, outcome.map(|product| AdjustedLine::of(&product))));
    }
    pending.write(conn, &context.outbox)?;
    Ok(outcomes)
}

impl AdjustedLine {
    fn of(product: &Product) -> Self {
        Self { version: product.version, quantity: product.quantity }
    }
}

/// What a transaction changes, worked out in memory on rows that it has locked, and written at its end.
pub(super) struct PendingAdjustments {
    now: Timestamp,
    products: BTreeMap<Sku, Product>,
    changed: BTreeSet<Sku>,
    adjustments: Vec<NewAdjustment>,
    events: Vec<NewEvent>,
}

impl PendingAdjustments {
    /// Nothing yet, on these rows.
    pub(super) fn of(locked: Vec<Product>, now: Timestamp) -> Self {
        Self {
            now,
            products: locked.into_iter().map(|row| (row.sku.clone(), row)).collect(),
            changed: BTreeSet::new(),
            adjustments: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The next state of `sku`, or why it is refused.
    pub(super) fn adjust(
        &mut self,
        sku: &Sku,
        adjustment: Adjustment,
        precondition: &Precondition,
        traceparent: Option<String>,
    ) -> QueryResult<Result<Product, ChangeRefusal>> {
        let after = match self.after(sku, &adjustment, precondition) {
            Ok(after) => after,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.adjustments.push(NewAdjustment::of(&after, &adjustment));
        let cause = events::cause_of_adjustment(adjustment);
        self.events.push(events::event(&after, cause, traceparent)?);
        self.changed.insert(sku.clone());
        self.products.insert(sku.clone(), after.clone());
        Ok(Ok(after))
    }

    fn after(
        &self,
        sku: &Sku,
        adjustment: &Adjustment,
        precondition: &Precondition,
    ) -> Result<Product, ChangeRefusal> {
        let before = existing(self.products.get(sku).cloned(), sku)?;
        precondition.check(Some(before.version))?;
        before.adjusted(adjustment.delta.get(), self.now)
    }

    /// Writes all of it.
    pub(super) fn write(self, conn: &mut Conn, outbox: &Outbox) -> QueryResult<()> {
        let changed: Vec<&Product> =
            self.changed.iter().filter_map(|sku| self.products.get(sku)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        model::update_stock(conn, &changed)?;
        model::insert_adjustments(conn, &self.adjustments)?;
        outbox.append(conn, self.events).map(drop)
    }
}
