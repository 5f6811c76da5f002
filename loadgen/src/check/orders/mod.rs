//! I7 between the services: each order's stock was taken exactly once if it is CONFIRMED, given back if it is CANCELLED, and
//! not touched if it is REJECTED.
//!
//! An order's record at product-service changes only by its commands. So where none is on its way before and after the look
//! at the record, and the order has stayed as it was, what does not fit will not come to fit.

#[cfg(test)]
mod fixture;
mod judge;
mod records;
mod rows;

use std::collections::BTreeMap;

use anyhow::Result;
use common::db::Conn;
use common::ids::EventId;

use self::judge::judge_all;
use self::rows::{Ordered, Taken, orders_after, orders_of, records_of, with_lines};
use super::Terms;
use super::finding::{Invariant, Side};
use super::kept::Kept;
use super::reader::Reader;
use super::report::Report;
use super::suspects::Suspects;

/// Looks at an order that seems wrong: it changes a few times in its life only.
const LOOKS: usize = 3;

/// Looks at all orders on both sides.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (mut suspects, mut lost) = (Suspects::default(), 0_u64);
    let take = |rows: Vec<Ordered>| {
        let next = rows.last().map(|order| order.row.id);
        let ids: Vec<EventId> = rows.iter().map(|order| order.row.id).collect();
        let records = product.page(|conn| records_of(conn, &ids))?;
        for order in &rows {
            lost += u64::from(order.row.lost);
            if !judge_all(order, records.get(&order.row.id), terms, kept).is_empty() {
                suspects.add(order.row.id);
            }
        }
        Ok(next)
    };
    let read = |conn: &mut Conn, after: &EventId| {
        let rows = orders_after(conn, *after)?;
        with_lines(conn, rows)
    };
    let rows = order.walk("orders", EventId::NIL, read, take)?;
    report.looked(Invariant::I7, Side::Order, "orders, by what was taken for them", rows);
    let suspects = suspects.take(Invariant::I7, "orders", report);
    look_again(product, order, &suspects, terms, report)?;
    if lost > 0 {
        report.note(format!(
            "order-service: {lost} orders have commands whose effect was lost with a database: see `stockloop admin --order lost-commands`"
        ));
    }
    records::check(product, order, (terms, kept), report)
}

/// Looks at orders that seemed wrong once more, in the order that proves it.
fn look_again(
    product: &mut Reader,
    order: &mut Reader,
    suspects: &[EventId],
    terms: &Terms,
    report: &mut Report,
) -> Result<()> {
    let mut moved = 0;
    for ids in suspects.chunks(500) {
        let mut left = ids.to_vec();
        for _ in 0..LOOKS {
            left = look_at(product, order, &left, terms, report)?;
        }
        moved += left.len();
    }
    if moved > 0 {
        report.could_not_look(format!(
            "I7: {moved} orders that seemed wrong changed at each look: check again"
        ));
    }
    Ok(())
}

/// Returns those of `ids` that changed meanwhile.
fn look_at(
    product: &mut Reader,
    order: &mut Reader,
    ids: &[EventId],
    terms: &Terms,
    report: &mut Report,
) -> Result<Vec<EventId>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let before = order.page(|conn| orders_of(conn, ids))?;
    let records = product.page(|conn| records_of(conn, ids))?;
    let after = order.page(|conn| orders_of(conn, ids))?;
    let kept = Kept::read(product, order, terms)?;
    Ok(tell_what_stayed((&before, &after), &records, (terms, &kept), report))
}

/// Tells what is wrong with orders that are `after` a look at their records what they were `before`; returns those that seem
/// wrong and are not, of which nothing is proven.
fn tell_what_stayed(
    (before, after): (&BTreeMap<EventId, Ordered>, &BTreeMap<EventId, Ordered>),
    records: &BTreeMap<EventId, Taken>,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Vec<EventId> {
    let mut moved = Vec::new();
    for (id, order) in before {
        let wrong = judge_all(order, records.get(id), terms, kept);
        if !wrong.is_empty() && after.get(id) != Some(order) {
            moved.push(*id);
            continue;
        }
        let side = if records.contains_key(id) { Side::Product } else { Side::Order };
        report.tell_all(wrong.into_iter().map(|wrong| wrong.at(side, format!("order {id}"))));
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::finding::Kind;
    use super::fixture::{kept, order, taken};
    use super::*;

    #[test]
    fn an_order_that_changed_between_the_looks_is_counted() {
        let of = |order: Ordered| BTreeMap::from([(EventId::MAX, order)]);
        let records = |state: &str| BTreeMap::from([(EventId::MAX, taken(state))]);
        let told = |before: Ordered, after: &BTreeMap<EventId, Ordered>, state: &str| {
            let (terms, mut report) = (Terms::default(), Report::new(1));
            let before = of(before);
            let looks = (&before, after);
            let moved = tell_what_stayed(looks, &records(state), (&terms, &kept()), &mut report);
            (moved.len(), report.kinds())
        };
        let confirmed = of(order("CONFIRMED"));
        let wrong = vec![(Kind::ConfirmedNotDeducted, 1)];
        assert_eq!(told(order("CONFIRMED"), &confirmed, "REFUSED"), (0, wrong));
        assert_eq!(told(order("REJECTED"), &confirmed, "DEDUCTED"), (1, vec![]));
        assert_eq!(told(order("REJECTED"), &BTreeMap::new(), "DEDUCTED"), (1, vec![]));
        // What seems right has not to stay.
        assert_eq!(told(order("CONFIRMED"), &BTreeMap::new(), "DEDUCTED"), (0, vec![]));
    }
}
