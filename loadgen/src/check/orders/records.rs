//! The other way round: each order that product-service knows was placed by somebody.

use anyhow::Result;
use common::ids::EventId;

use super::rows::{RecordRow, placed, records_after};
use crate::check::Terms;
use crate::check::finding::{Finding, Invariant, Kind, Side};
use crate::check::kept::Kept;
use crate::check::reader::Reader;
use crate::check::report::Report;
use crate::check::suspects::Suspects;

/// Looks at all records.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let mut suspects = Suspects::default();
    let take = |rows: Vec<RecordRow>| {
        let next = rows.last().map(|row| row.id);
        let ids: Vec<EventId> = rows.iter().map(|row| row.id).collect();
        let placed = order.page(|conn| placed(conn, &ids))?;
        let unknown = rows.into_iter().filter(|row| !placed.contains(&row.id));
        suspects.extend(unknown.filter(|row| judge(row, kept).is_some()));
        Ok(next)
    };
    let rows = product.walk("records of orders", EventId::NIL, records_after, take)?;
    report.looked(Invariant::I7, Side::Product, "records of orders, by their orders", rows);
    let what = (Invariant::I7, "records of orders");
    suspects.tell(what, report, || Kept::read(product, order, terms), judge)
}

/// What is wrong with the record of an order that order-service does not have.
fn judge(row: &RecordRow, kept: &Kept) -> Option<Finding> {
    let at = row.cancelled_us.unwrap_or(row.handled_us).max(row.handled_us);
    if at <= kept.orders || kept.may_be_lost_of(row.id, at) {
        return None;
    }
    let found = format!("{} at product-service, since {at}", row.state);
    let (subject, expected) = (format!("order {}", row.id), "order-service knows it");
    Some(Finding::new(Kind::OrderUnknown, Side::Product, subject, expected, found))
}
