//! A batch of adjustments: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::event::NewEvent;
use common::inventory::Sku;

use super::model::{self, NewAdjustment};
use super::{
    Adjustment, AdjustmentLine, AdjustmentLines, ChangeError, ChangeRefusal, Product, WriteContext,
    events, existing,
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
    let mut pending = PendingAdjustments::lock(conn, &lines)?;
    let mut outcomes = Vec::with_capacity(lines.len());
    for line in lines {
        let (sku, adjustment) = line.split();
        let outcome = match pending.adjust(context, &sku, adjustment) {
            Ok(adjusted) => Ok(adjusted),
            Err(ChangeError::Refused(refusal)) => Err(refusal),
            Err(fault) => return Err(fault),
        };
        outcomes.push((sku, outcome));
    }
    pending.write(conn, context)?;
    Ok(outcomes)
}

/// What a batch changes, worked out in memory on rows that this transaction has locked, and written at its end.
#[derive(Default)]
struct PendingAdjustments {
    products: BTreeMap<Sku, Product>,
    changed: BTreeSet<Sku>,
    adjustments: Vec<NewAdjustment>,
    events: Vec<NewEvent>,
}

impl PendingAdjustments {
    fn lock(conn: &mut Conn, lines: &[AdjustmentLine]) -> Result<Self, ChangeError> {
        let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        let products = model::lock_all(conn, &skus)?;
        Ok(Self {
            products: products.into_iter().map(|row| (row.sku.clone(), row)).collect(),
            ..Self::default()
        })
    }

    fn adjust(
        &mut self,
        context: &WriteContext,
        sku: &Sku,
        adjustment: Adjustment,
    ) -> Result<AdjustedLine, ChangeError> {
        let before = existing(self.products.get(sku).cloned(), sku)?;
        let after = before.adjusted(adjustment.delta.get(), context.now)?;
        self.adjustments.push(NewAdjustment::of(&after, &adjustment));
        let cause = events::cause_of_adjustment(adjustment);
        let event = events::event(&after, cause, context.traceparent.clone())?;
        self.events.push(event);
        self.changed.insert(sku.clone());
        let adjusted = AdjustedLine { version: after.version, quantity: after.quantity };
        self.products.insert(sku.clone(), after);
        Ok(adjusted)
    }

    fn write(self, conn: &mut Conn, context: &WriteContext) -> Result<(), ChangeError> {
        let changed: Vec<&Product> =
            self.changed.iter().filter_map(|sku| self.products.get(sku)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        model::update_stock(conn, &changed)?;
        model::insert_adjustments(conn, &self.adjustments)?;
        context.outbox.append(conn, self.events)?;
        Ok(())
    }
}
