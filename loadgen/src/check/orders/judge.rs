//! What is wrong with an order, by what was taken for it.

use super::rows::{Lines, Ordered, Taken};
use crate::check::Terms;
use crate::check::finding::{Kind, Wrong};
use crate::check::kept::Kept;

/// All that is wrong with an order.
pub(super) fn judge_all(
    order: &Ordered,
    taken: Option<&Taken>,
    terms: &Terms,
    kept: &Kept,
) -> Vec<Wrong> {
    [judge(order, taken, terms, kept), promised(order, taken, kept)].into_iter().flatten().collect()
}

/// Whether what an order waits for is promised to it. A reservation may end before the answer has come, by the event of its
/// deduction, but not before that.
fn promised(Ordered { row, .. }: &Ordered, taken: Option<&Taken>, kept: &Kept) -> Option<Wrong> {
    let may_be_taken = match taken {
        Some(taken) => !taken.lines.is_empty(),
        None => row.id.made_at() <= kept.records || kept.may_be_lost_of(row.id, row.changed_us),
    };
    (row.unpromised && !may_be_taken).then(|| {
        let found = format!("{}, and a line without one", row.status);
        let expected = "a reservation of each line, until it is taken";
        Wrong::new(Kind::ReservationMissing, expected, found)
    })
}

/// What is wrong with an order, if there is something.
fn judge(order: &Ordered, taken: Option<&Taken>, terms: &Terms, kept: &Kept) -> Option<Wrong> {
    let row = &order.row;
    let is_undecided = matches!(row.status.as_str(), "PENDING" | "CANCELLING");
    if is_undecided && (terms.settled || !row.on_its_way) {
        let found = match row.on_its_way {
            true => format!("{}, since {}", row.status, row.changed_us),
            false => format!("{}, and no command of it is on its way", row.status),
        };
        return Some(Wrong::new(Kind::OrderUndecided, "an answer", found));
    }
    // By hand is by whatever hand; and who lost a command was told so.
    let by_hand = row.made_good || row.cancellation.as_deref() == Some("RESOLVED");
    if row.on_its_way || row.lost || by_hand || row.status == "NEEDS_ATTENTION" {
        return None;
    }
    let Some(taken) = taken else {
        let is_forgotten = row.id.made_at() <= kept.records;
        if is_forgotten || kept.may_be_lost_of(row.id, row.changed_us) {
            return None;
        }
        let confirmed = row.status == "CONFIRMED";
        let kind = if confirmed { Kind::ConfirmedNotDeducted } else { Kind::OrderContradicted };
        let expected = format!("a record of an order that is {}", row.status);
        return Some(Wrong::new(kind, expected, "product-service does not know it"));
    };
    let moment = taken.row.cancelled_us.unwrap_or(taken.row.handled_us);
    let contradiction = contradiction(&row.status, &taken.row.state);
    if let Some(kind) = contradiction {
        // One of the two may not know of the other's lost time.
        let lost = [row.changed_us, moment].iter().any(|at| kept.may_be_lost_of(row.id, *at));
        let expected = format!("{} at product-service", wanted(&row.status));
        let found = format!("{}, since {moment}", taken.row.state);
        return (!lost).then(|| Wrong::new(kind, expected, found));
    }
    lines(order, taken).filter(|_| !kept.may_be_lost_of(row.id, moment))
}

/// What of an order's record fits its status.
fn wanted(status: &str) -> &'static str {
    match status {
        "CONFIRMED" => "DEDUCTED",
        "CANCELLED" => "RETURNED, REFUSED or CANCELLED",
        _ => "REFUSED or CANCELLED",
    }
}

/// How the state of an order's record contradicts its status, which is a final one or CONFIRMED.
fn contradiction(status: &str, state: &str) -> Option<Kind> {
    match (status, state) {
        ("CONFIRMED", "DEDUCTED") => None,
        ("CONFIRMED", "REFUSED") => Some(Kind::ConfirmedNotDeducted),
        // Where its placing was REFUSED, nothing was taken, so there is nothing to give back.
        ("CANCELLED", "RETURNED" | "CANCELLED" | "REFUSED") => None,
        ("CANCELLED", "DEDUCTED") => Some(Kind::CancelledNotReturned),
        ("REJECTED", "REFUSED" | "CANCELLED") => None,
        ("REJECTED", "DEDUCTED") => Some(Kind::RejectedButDeducted),
        _ => Some(Kind::OrderContradicted),
    }
}

/// Whether what was taken is what was ordered.
fn lines(order: &Ordered, taken: &Taken) -> Option<Wrong> {
    let state = taken.row.state.as_str();
    let took = matches!(state, "DEDUCTED" | "RETURNED");
    let expected = if took { order.lines.clone() } else { Lines::new() };
    if !fit(&expected, &taken.lines) {
        return Some(Wrong::new(Kind::OrderLinesDiffer, words(&expected), words(&taken.lines)));
    }
    (taken.returned && state != "RETURNED").then(|| {
        let expected = format!("nothing is given back of an order that is {state}");
        Wrong::new(Kind::OrderContradicted, expected, "some of it was")
    })
}

/// Whether lines are about the same pieces, and the same versions where both sides know them.
fn fit(ordered: &Lines, taken: &Lines) -> bool {
    let fits = |(sku, (quantity, version)): (&String, &(i64, Option<i64>))| {
        taken.get(sku).is_some_and(|row| {
            let same_version = version.zip(row.1).is_none_or(|(line, row)| line == row);
            row.0 == *quantity && same_version
        })
    };
    ordered.len() == taken.len() && ordered.iter().all(fits)
}

fn words(lines: &Lines) -> String {
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    let line = |(sku, (quantity, version)): (&String, &(i64, Option<i64>))| match version {
        Some(version) => format!("{quantity} × {sku} with version {version}"),
        None => format!("{quantity} × {sku}"),
    };
    lines.iter().take(20).map(line).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{AT, kept, order, taken, tea};
    use super::*;
    use crate::check::kept::Restored;

    fn kind(order: &Ordered, taken: Option<&Taken>) -> Option<Kind> {
        judge(order, taken, &Terms::default(), &kept()).map(|wrong| wrong.kind)
    }

    #[test]
    fn each_order_ends_one_way_on_both_sides() {
        let state = |status: &str, state: &str| kind(&order(status), Some(&taken(state)));
        for (status, fits) in [
            ("CONFIRMED", "DEDUCTED"),
            ("CANCELLED", "RETURNED"),
            ("CANCELLED", "CANCELLED"),
            ("CANCELLED", "REFUSED"),
            ("REJECTED", "REFUSED"),
            ("REJECTED", "CANCELLED"),
        ] {
            assert_eq!(state(status, fits), None, "{status} {fits}");
        }
        assert_eq!(state("CONFIRMED", "REFUSED"), Some(Kind::ConfirmedNotDeducted));
        assert_eq!(state("CONFIRMED", "RETURNED"), Some(Kind::OrderContradicted));
        assert_eq!(state("CANCELLED", "DEDUCTED"), Some(Kind::CancelledNotReturned));
        assert_eq!(state("REJECTED", "DEDUCTED"), Some(Kind::RejectedButDeducted));
        assert_eq!(kind(&order("CONFIRMED"), None), Some(Kind::ConfirmedNotDeducted));
    }

    #[test]
    fn what_is_taken_is_what_was_ordered() {
        let other = Taken { lines: tea(2), ..taken("DEDUCTED") };
        assert_eq!(kind(&order("CONFIRMED"), Some(&other)), Some(Kind::OrderLinesDiffer));
        let at = |version| Lines::from([("TEA".to_owned(), (3, Some(version)))]);
        let answered = Ordered { lines: at(7), ..order("CONFIRMED") };
        assert_eq!(kind(&answered, Some(&taken("DEDUCTED"))), None);
        assert_eq!(kind(&answered, Some(&Taken { lines: at(7), ..taken("DEDUCTED") })), None);
        let other = Taken { lines: at(8), ..taken("DEDUCTED") };
        assert_eq!(kind(&answered, Some(&other)), Some(Kind::OrderLinesDiffer));
        let refused = Taken { lines: tea(3), ..taken("REFUSED") };
        assert_eq!(kind(&order("REJECTED"), Some(&refused)), Some(Kind::OrderLinesDiffer));
        let half = Taken { returned: true, ..taken("DEDUCTED") };
        assert_eq!(kind(&order("CONFIRMED"), Some(&half)), Some(Kind::OrderContradicted));
    }

    #[test]
    fn an_order_waits_only_for_a_command_that_is_on_its_way() {
        let mut pending = order("PENDING");
        assert_eq!(kind(&pending, None), Some(Kind::OrderUndecided));
        pending.row.on_its_way = true;
        assert_eq!(kind(&pending, None), None);
        let at_rest = Terms { settled: true, ..Terms::default() };
        let judged = judge(&pending, None, &at_rest, &kept()).map(|wrong| wrong.kind);
        assert_eq!(judged, Some(Kind::OrderUndecided));
    }

    #[test]
    fn an_order_that_waits_has_what_it_waits_for() {
        let mut pending = order("PENDING");
        (pending.row.on_its_way, pending.row.unpromised) = (true, true);
        let kinds = |order: &Ordered, taken: Option<&Taken>, kept: &Kept| -> Vec<Kind> {
            let wrong = judge_all(order, taken, &Terms::default(), kept);
            wrong.into_iter().map(|wrong| wrong.kind).collect()
        };
        assert_eq!(kinds(&pending, None, &kept()), [Kind::ReservationMissing]);
        assert_eq!(kinds(&pending, Some(&taken("REFUSED")), &kept()), [Kind::ReservationMissing]);
        // The deduction's event was faster than the answer.
        assert!(kinds(&pending, Some(&taken("DEDUCTED")), &kept()).is_empty());
        // It may have been taken, and the record is gone.
        assert!(kinds(&pending, None, &Kept::from_all(AT)).is_empty());
        pending.row.unpromised = false;
        assert!(kinds(&pending, None, &kept()).is_empty());
    }

    #[test]
    fn what_a_restore_explains_is_no_finding() {
        let restored = Restored { since_us: None, found_us: AT };
        let kept = Kept { restored: vec![restored], ..kept() };
        let judged =
            |state: Option<&Taken>| judge(&order("CANCELLED"), state, &Terms::default(), &kept);
        assert!(judged(None).is_none() && judged(Some(&taken("DEDUCTED"))).is_none());
        let mut lost = order("CONFIRMED");
        lost.row.lost = true;
        assert_eq!(kind(&lost, None), None);
        let mut made_good = order("CONFIRMED");
        made_good.row.made_good = true;
        assert_eq!(kind(&made_good, None), None);
    }
}
