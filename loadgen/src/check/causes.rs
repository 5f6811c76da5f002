//! I7, the other way round: each adjustment and each deduction that is noted changed the stock.
//!
//! All of these are written in the transaction of the change, so one page sees them with it.

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::Terms;
use super::finding::{Finding, Invariant, Kind, Side};
use super::kept::Kept;
use super::reader::{PAGE, Reader, as_key};
use super::report::Report;
use super::rows::{AdjustmentRow, DeductionRow};
use super::suspects::Suspects;

/// An adjustment, and whether an event tells of its version.
#[derive(Debug, QueryableByName)]
struct ToldAdjustmentRow {
    #[diesel(embed)]
    adjustment: AdjustmentRow,
    #[diesel(sql_type = BigInt)]
    at_us: Timestamp,
    #[diesel(sql_type = Bool)]
    told: bool,
}

/// A deduction, and whether events tell of it and of its return.
#[derive(Debug, QueryableByName)]
struct ToldDeductionRow {
    #[diesel(embed)]
    deduction: DeductionRow,
    #[diesel(sql_type = Bool)]
    told: bool,
    #[diesel(sql_type = Bool)]
    told_returned: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    handled_us: Option<Timestamp>,
    #[diesel(sql_type = Nullable<BigInt>)]
    cancelled_us: Option<Timestamp>,
}

/// Looks at all adjustments and deductions.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (from, mut suspects) = (kept.product_events, Suspects::default());
    let take = |rows: Vec<ToldAdjustmentRow>| {
        let next = rows.last().map(|row| row.adjustment.seq);
        let seems_wrong = |row: &ToldAdjustmentRow| judge_adjustment(row, from).is_some();
        suspects.extend(rows.into_iter().filter(seems_wrong));
        Ok(next)
    };
    let rows = product.walk("adjustments", i64::MIN, adjustments, take)?;
    report.looked(Invariant::I7, Side::Product, "adjustments, by their changes", rows);
    let (what, now) = ((Invariant::I7, "adjustments"), || Kept::read(product, order, terms));
    suspects.tell(what, report, now, |row, kept| judge_adjustment(row, kept.product_events))?;

    let mut suspects = Suspects::default();
    let take = |rows: Vec<ToldDeductionRow>| {
        let next = rows.last().map(|row| (row.deduction.order_id, row.deduction.sku.clone()));
        let seems_wrong = |row: &ToldDeductionRow| judge(row, from).is_some();
        suspects.extend(rows.into_iter().filter(seems_wrong));
        Ok(next)
    };
    let begin = (EventId::NIL, String::new());
    let rows = product.walk("deductions", begin, deductions, take)?;
    report.looked(Invariant::I7, Side::Product, "deductions, by their changes", rows);
    let (what, now) = ((Invariant::I7, "deductions"), || Kept::read(product, order, terms));
    suspects.tell(what, report, now, |row, kept| judge(row, kept.product_events))
}

fn judge_adjustment(row: &ToldAdjustmentRow, kept_from: Timestamp) -> Option<Finding> {
    if row.told || row.at_us <= kept_from {
        return None;
    }
    let AdjustmentRow { seq, sku, version, delta, .. } = &row.adjustment;
    let expected = format!("an event of version {version}, by {delta} pieces");
    let subject = format!("{sku} (adjustment {seq})");
    Some(Finding::new(Kind::AdjustmentWithoutChange, Side::Product, subject, expected, "none"))
}

fn judge(row: &ToldDeductionRow, kept_from: Timestamp) -> Option<Finding> {
    let is_young = |at: Option<Timestamp>| at.is_some_and(|at| at > kept_from);
    let DeductionRow { order_id, sku, quantity, version, returned_version } = &row.deduction;
    let missing = match returned_version {
        _ if !row.told && is_young(row.handled_us) => version,
        Some(returned) if !row.told_returned && is_young(row.cancelled_us) => returned,
        _ => return None,
    };
    let expected = format!("an event of version {missing} of {sku}, by {quantity} pieces");
    let subject = format!("order {order_id}");
    Some(Finding::new(Kind::DeductionWithoutChange, Side::Product, subject, expected, "none"))
}

/// Whether there is an event of a product's version.
fn told(conn: &Conn, sku: &str, version: &str) -> String {
    let as_key = as_key(conn);
    format!(
        "EXISTS (SELECT 1 FROM outbox_event e \
                 WHERE e.key = {sku} {as_key} AND e.kind = 0 AND e.version = {version})"
    )
}

fn adjustments(conn: &mut Conn, after: &i64) -> QueryResult<Vec<ToldAdjustmentRow>> {
    let sql = format!(
        "SELECT a.seq, a.sku, a.version, a.delta, a.quantity, a.at_us, {} AS told \
         FROM adjustment a WHERE a.seq > $1 ORDER BY a.seq LIMIT $2",
        told(conn, "a.sku", "a.version"),
    );
    on!(conn, c => sql_query(sql).bind::<BigInt, _>(*after).bind::<BigInt, _>(PAGE).load(c))
}

fn deductions(conn: &mut Conn, after: &(EventId, String)) -> QueryResult<Vec<ToldDeductionRow>> {
    let sql = format!(
        "SELECT d.order_id, d.sku, d.quantity, d.version, d.returned_version, {} AS told, \
           {} AS told_returned, r.handled_us, r.cancelled_us \
         FROM order_deduction d LEFT JOIN order_record r ON r.id = d.order_id \
         WHERE (d.order_id, d.sku) > ($1, $2) ORDER BY d.order_id, d.sku LIMIT $3",
        told(conn, "d.sku", "d.version"),
        told(conn, "d.sku", "d.returned_version"),
    );
    on!(conn, c => sql_query(sql)
        .bind::<EventIdSql, _>(after.0)
        .bind::<Text, _>(&after.1)
        .bind::<BigInt, _>(PAGE)
        .load(c))
}
