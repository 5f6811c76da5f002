//! A batch of products: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::NewEvent;
use common::inventory::{CauseKind, Sku};

use super::model::{self, NewAdjustment};
use super::{
    Adjustment, BatchMode, ChangeError, ChangeRefusal, Product, ProductContent, ProductLine,
    ProductLines, WriteContext, events,
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
    let mut raced = None;
    for _ in 0..TRIES {
        // A savepoint: what a try that met another's product has written goes, and so do its locks.
        match conn.transaction(|conn| put_once(conn, context, mode, &lines, trial)) {
            Err(ChangeError::Raced(sku)) => raced = Some(ChangeError::Raced(sku)),
            ended => return ended,
        }
    }
    raced.map_or(Ok(Vec::new()), Err)
}

fn put_once(
    conn: &mut Conn,
    context: &WriteContext,
    mode: &BatchMode,
    lines: &[ProductLine],
    trial: bool,
) -> Result<Vec<PutLineOutcome>, ChangeError> {
    let mut pending = PendingProducts::lock(conn, mode, lines)?;
    let mut outcomes = Vec::with_capacity(lines.len());
    for line in lines {
        let (sku, content) = line.clone().split();
        let outcome = match pending.put(context, &sku, content) {
            Ok(put) => Ok(put),
            Err(ChangeError::Refused(refusal)) => Err(refusal),
            Err(fault) => return Err(fault),
        };
        outcomes.push((sku, outcome));
    }
    if !trial {
        pending.write(conn, context)?;
    }
    Ok(outcomes)
}

/// What a batch changes, worked out in memory on rows that this transaction has locked, and written at its end.
struct PendingProducts<'a> {
    mode: &'a BatchMode,
    /// The version of products without a row.
    first: i64,
    products: BTreeMap<Sku, Product>,
    /// The products that have a row.
    locked: BTreeSet<Sku>,
    changed: BTreeSet<Sku>,
    adjustments: Vec<NewAdjustment>,
    events: Vec<NewEvent>,
}

impl<'a> PendingProducts<'a> {
    fn lock(
        conn: &mut Conn,
        mode: &'a BatchMode,
        lines: &[ProductLine],
    ) -> Result<Self, ChangeError> {
        let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        let rows = model::lock_all(conn, &skus)?;
        let products: BTreeMap<Sku, Product> =
            rows.into_iter().map(|row| (row.sku.clone(), row)).collect();
        Ok(Self {
            mode,
            // After the locks, so that a tombstone that went meanwhile has been noted.
            first: retention::first_version(conn)?,
            locked: products.keys().cloned().collect(),
            products,
            changed: BTreeSet::new(),
            adjustments: Vec::new(),
            events: Vec::new(),
        })
    }

    fn put(
        &mut self,
        context: &WriteContext,
        sku: &Sku,
        content: ProductContent,
    ) -> Result<PutLine, ChangeError> {
        let before = self.products.get(sku);
        let after = self.next(before, sku, content, context.now)?;
        let Some(present) = before.filter(|product| !product.removed) else {
            sku.check_as_new().map_err(ChangeRefusal::from)?;
            return self.accept(context, after, None);
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
        self.accept(context, after, adjustment)
    }

    fn next(
        &self,
        before: Option<&Product>,
        sku: &Sku,
        content: ProductContent,
        now: Timestamp,
    ) -> Result<Product, ChangeRefusal> {
        match before {
            Some(before) => before.put(content, now),
            None => Product::of(sku, content, self.first, now),
        }
    }

    fn accept(
        &mut self,
        context: &WriteContext,
        after: Product,
        adjustment: Option<Adjustment>,
    ) -> Result<PutLine, ChangeError> {
        self.adjustments.extend(adjustment.iter().map(|made| NewAdjustment::of(&after, made)));
        let cause = match adjustment {
            Some(adjustment) => events::cause_of_adjustment(adjustment),
            None => events::cause(CauseKind::Put),
        };
        self.events.push(events::event(&after, cause, context.traceparent.clone())?);
        self.changed.insert(after.sku.clone());
        let version = after.version;
        self.products.insert(after.sku.clone(), after);
        Ok(PutLine::Accepted { version })
    }

    fn write(self, conn: &mut Conn, context: &WriteContext) -> Result<(), ChangeError> {
        let changed: Vec<&Product> =
            self.changed.iter().filter_map(|sku| self.products.get(sku)).collect();
        let Some(first) = changed.first() else { return Ok(()) };
        let (locked, new): (Vec<&Product>, Vec<&Product>) =
            changed.iter().partition(|product| self.locked.contains(&product.sku));
        if model::put_all(conn, &locked, &new)? != changed.len() {
            return Err(ChangeError::Raced(first.sku.clone()));
        }
        model::insert_adjustments(conn, &self.adjustments)?;
        context.outbox.append(conn, self.events)?;
        Ok(())
    }
}
