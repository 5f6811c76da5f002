//! A batch of products: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::BTreeSet;

use common::db::Conn;
use common::inventory::{CauseKind, Sku};

use super::pending::PendingChanges;
use super::{
    Adjustment, BatchMode, ChangeError, ChangeRefusal, Product, ProductContent, ProductLine,
    ProductLines, WriteContext, events, model,
};
use crate::retention;

/// Tries to write a batch: each finds what others put in during the one before.
const TRIES: usize = 3;

/// What became of a line that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutLine {
    /// The product has what the line says, as a new version.
    Accepted {
        /// That version.
        version: i64,
    },
    /// The product had all that the line says: no new version, and no event.
    Unchanged {
        /// The version that it has.
        version: i64,
    },
    /// The product is there, and the batch only puts in those that are not.
    Skipped {
        /// The version that it has.
        version: i64,
    },
}

/// What became of a line: its product, and why not if it was refused.
pub type PutLineOutcome = (Sku, Result<PutLine, ChangeRefusal>);

/// Puts the lines in, in order; a refused line writes nothing, the others stand.
///
/// Each line that is accepted is a version and an event of its own. A `trial` writes nothing, and its outcomes are
/// what would have become of the lines. The outcomes are in the order of the lines.
///
/// # Errors
/// When a statement fails, or others put the same products in each time; then the whole batch has to be rolled back.
pub fn put_batch(
    conn: &mut Conn,
    context: &WriteContext,
    mode: &BatchMode,
    lines: ProductLines,
    trial: bool,
) -> Result<Vec<PutLineOutcome>, ChangeError> {
    let lines = lines.into_inner();
    for _ in 0..TRIES {
        // A savepoint: what a try that met another's product has written goes, and so do its locks.
        match conn.transaction(|conn| put_once(conn, context, mode, &lines, trial)) {
            Err(ChangeError::Raced) => {}
            ended => return ended,
        }
    }
    Err(ChangeError::Raced)
}

fn put_once(
    conn: &mut Conn,
    context: &WriteContext,
    mode: &BatchMode,
    lines: &[ProductLine],
    trial: bool,
) -> Result<Vec<PutLineOutcome>, ChangeError> {
    let mut products = BatchOfProducts::lock(conn, context, mode, lines)?;
    let mut outcomes = Vec::with_capacity(lines.len());
    for line in lines {
        let (sku, content) = line.clone().split();
        let outcome = match products.put(&sku, content) {
            Ok(put) => Ok(put),
            Err(ChangeError::Refused(refusal)) => Err(refusal),
            Err(fault) => return Err(fault),
        };
        outcomes.push((sku, outcome));
    }
    if !trial && !products.pending.write(conn, &context.outbox)? {
        return Err(ChangeError::Raced);
    }
    Ok(outcomes)
}

struct BatchOfProducts<'a> {
    context: &'a WriteContext,
    mode: &'a BatchMode,
    pending: PendingChanges,
}

impl<'a> BatchOfProducts<'a> {
    fn lock(
        conn: &mut Conn,
        context: &'a WriteContext,
        mode: &'a BatchMode,
        lines: &[ProductLine],
    ) -> Result<Self, ChangeError> {
        let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        let locked = model::lock_all(conn, &skus)?;
        // After the locks, so that a tombstone that went meanwhile has been noted.
        let first = retention::first_version(conn)?;
        let pending = PendingChanges::of(locked, context.now).beginning_with(first);
        Ok(Self { context, mode, pending })
    }

    fn put(&mut self, sku: &Sku, content: ProductContent) -> Result<PutLine, ChangeError> {
        let before = self.pending.product(sku);
        let after = self.pending.next(sku, content)?;
        let Some(present) = before.filter(|product| !product.removed) else {
            sku.check_as_new().map_err(ChangeRefusal::from)?;
            return self.accept(after, None);
        };
        let version = present.version;
        if after.has_content_of(present) {
            return Ok(PutLine::Unchanged { version });
        }
        let adjustment = match self.mode {
            BatchMode::IfAbsent => return Ok(PutLine::Skipped { version }),
            BatchMode::Replace => None,
            BatchMode::AdjustTo { reason, reference } => {
                present.difference_to(&after)?.map(|delta| Adjustment {
                    delta,
                    reason: reason.clone(),
                    reference: reference.clone(),
                })
            }
        };
        self.accept(after, adjustment)
    }

    fn accept(
        &mut self,
        after: Product,
        adjustment: Option<Adjustment>,
    ) -> Result<PutLine, ChangeError> {
        let version = after.version;
        let cause = match adjustment.clone() {
            Some(adjustment) => events::cause_of_adjustment(adjustment),
            None => events::cause(CauseKind::Put),
        };
        let traceparent = self.context.traceparent.clone();
        self.pending.replace(after, adjustment.as_ref(), cause, traceparent)?;
        Ok(PutLine::Accepted { version })
    }
}
