//! A batch of adjustments: lines in order, all rows locked at once, everything written set-based at the end.

use std::collections::{BTreeMap, BTreeSet};

use common::db::Conn;
use common::http::Problem;
use common::inventory::Sku;
use common::outbox::NewEvent;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{self, NewAdjustment};
use super::{Adjustment, ChangeError, Changing, Line, Lines, Product, Refusal, change, events};

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

/// What a batch does, worked out in memory on rows that this transaction has locked.
#[derive(Default)]
struct Work {
    rows: BTreeMap<Sku, Product>,
    changed: BTreeSet<Sku>,
    adjustments: Vec<NewAdjustment>,
    events: Vec<NewEvent>,
}

/// Adjusts the lines in order; a refused line writes nothing, the others stand.
///
/// Each accepted line is a version and an event of its own.
///
/// # Errors
/// When a statement fails; then the whole batch has to be rolled back.
pub fn adjust_batch(
    conn: &mut Conn,
    changing: &Changing,
    lines: Lines,
) -> Result<Vec<LineAnswer>, ChangeError> {
    let lines = lines.into_inner();
    let mut work = Work::lock(conn, &lines)?;
    let mut answers = Vec::with_capacity(lines.len());
    for (line, content) in lines.into_iter().enumerate() {
        let (sku, adjustment) = content.split();
        let answer = match work.adjust(changing, &sku, adjustment) {
            Ok((version, quantity)) => LineAnswer::Accepted { line, sku, version, quantity },
            Err(ChangeError::Refused(refusal)) => {
                let problem = of_line(line, &refusal);
                LineAnswer::Refused { line, sku, problem }
            }
            Err(fault) => return Err(fault),
        };
        answers.push(answer);
    }
    work.write(conn, changing)?;
    Ok(answers)
}

fn of_line(line: usize, refusal: &Refusal) -> Problem {
    let problem = Problem::from(refusal);
    match refusal.field() {
        Some(field) => problem.at(format!("lines[{line}].{field}")),
        None => problem.at(format!("lines[{line}]")),
    }
}

impl Work {
    fn lock(conn: &mut Conn, lines: &[Line]) -> Result<Self, ChangeError> {
        let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        let rows = model::lock_all(conn, &skus)?;
        Ok(Self {
            rows: rows.into_iter().map(|row| (row.sku.clone(), row)).collect(),
            ..Self::default()
        })
    }

    /// One line: the product's version and stock after it.
    fn adjust(
        &mut self,
        changing: &Changing,
        sku: &Sku,
        adjustment: Adjustment,
    ) -> Result<(i64, i64), ChangeError> {
        let before = change::present(self.rows.get(sku).cloned(), sku)?;
        let after = before.adjusted(adjustment.delta.get(), changing.now)?;
        self.adjustments.push(NewAdjustment::of(&after, &adjustment));
        let cause = events::of_adjustment(adjustment);
        let event = events::event(&after, cause, changing.traceparent.clone())?;
        self.events.push(event);
        self.changed.insert(sku.clone());
        let answer = (after.version, after.quantity);
        self.rows.insert(sku.clone(), after);
        Ok(answer)
    }

    fn write(self, conn: &mut Conn, changing: &Changing) -> Result<(), ChangeError> {
        let changed: Vec<&Product> =
            self.changed.iter().filter_map(|sku| self.rows.get(sku)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        model::update_stock(conn, &changed)?;
        model::insert_adjustments(conn, &self.adjustments)?;
        changing.outbox.append(conn, self.events)?;
        Ok(())
    }
}
