//! A batch of adjustments: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::BTreeSet;

use common::db::Conn;
use common::http::Precondition;
use common::inventory::Sku;

use super::pending::PendingChanges;
use super::{AdjustmentLines, ChangeError, ChangeRefusal, Product, WriteContext, model};

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
    let mut pending = PendingChanges::of(model::lock_all(conn, &skus)?, context.now);
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
