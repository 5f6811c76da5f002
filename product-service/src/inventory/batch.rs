//! A batch of adjustments: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::event::NewEvent;
use common::http::Problem;
use common::inventory::Sku;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{self, NewAdjustment};
use super::{
    Adjustment, AdjustmentLine, AdjustmentLines, ChangeError, ChangeRefusal, Product, WriteContext,
    events, existing,
};

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum LineAnswer {
    /// It is done.
    Accepted {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// The product's version after this line.
        version: i64,
        /// Pieces in stock after this line.
        quantity: i64,
    },
    /// It wrote nothing.
    Refused {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// Why.
        problem: Problem,
    },
}

/// Adjusts the lines in order; a refused line writes nothing, the others stand.
///
/// Each accepted line is a version and an event of its own.
///
/// # Errors
/// When a statement fails; then the whole batch has to be rolled back.
pub fn adjust_batch(
    conn: &mut Conn,
    context: &WriteContext,
    lines: AdjustmentLines,
) -> Result<Vec<LineAnswer>, ChangeError> {
    let lines = lines.into_inner();
    let mut pending = PendingAdjustments::lock(conn, &lines)?;
    let mut answers = Vec::with_capacity(lines.len());
    for (line, content) in lines.into_iter().enumerate() {
        let (sku, adjustment) = content.split();
        let answer = match pending.adjust(context, &sku, adjustment) {
            Ok((version, quantity)) => LineAnswer::Accepted { line, sku, version, quantity },
            Err(ChangeError::Refused(refusal)) => {
                let problem = problem_of_line(line, &refusal);
                LineAnswer::Refused { line, sku, problem }
            }
            Err(fault) => return Err(fault),
        };
        answers.push(answer);
    }
    pending.write(conn, context)?;
    Ok(answers)
}

fn problem_of_line(line: usize, refusal: &ChangeRefusal) -> Problem {
    let problem = Problem::from(refusal);
    match refusal.field() {
        Some(field) => problem.at(format!("lines[{line}].{field}")),
        None => problem.at(format!("lines[{line}]")),
    }
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

    /// One line: the product's version and stock after it.
    fn adjust(
        &mut self,
        context: &WriteContext,
        sku: &Sku,
        adjustment: Adjustment,
    ) -> Result<(i64, i64), ChangeError> {
        let before = existing(self.products.get(sku).cloned(), sku)?;
        let after = before.adjusted(adjustment.delta.get(), context.now)?;
        self.adjustments.push(NewAdjustment::of(&after, &adjustment));
        let cause = events::cause_of_adjustment(adjustment);
        let event = events::event(&after, cause, context.traceparent.clone())?;
        self.events.push(event);
        self.changed.insert(sku.clone());
        let (version, quantity) = (after.version, after.quantity);
        self.products.insert(sku.clone(), after);
        Ok((version, quantity))
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
