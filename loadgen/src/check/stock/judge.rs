//! What is wrong with a state of a product, by the one before it and by what is noted of its cause.

use common::clock::Timestamp;
use common::ids::EventId;
use common::inventory::{CHANGED, REMOVED};

use super::Link;
use super::state::{ChangedBy, State};
use super::steps::Step;
use crate::check::finding::{Finding, Kind, Side, Wrong};
use crate::check::kept::Kept;

/// What is wrong with an event that follows another one of its product, if there is one.
pub(super) fn find(kept: &Kept, last: Option<&Link>, step: &Step) -> Option<Finding> {
    let wrong = match &step.state {
        Ok(state) => judge(kept, last, step, state)?,
        Err(error) => {
            let found = format!("the payload of {} can't be read: {error}", step.row.id);
            Wrong::new(Kind::TwoContents, "a state of the product", found)
        }
    };
    Some(wrong.at(Side::Product, &step.row.key))
}

/// What is wrong with the state that an event tells.
fn judge(kept: &Kept, last: Option<&Link>, step: &Step, state: &State) -> Option<Wrong> {
    if state.version != step.row.version {
        let expected = format!("version {}, as its event says", step.row.version);
        return Some(Wrong::new(Kind::TwoContents, expected, state.to_string()));
    }
    if let Some(sku) = state.sku.as_ref().filter(|sku| **sku != step.row.key) {
        let expected = format!("a state of {}, as its event says", step.row.key);
        return Some(Wrong::new(Kind::TwoContents, expected, format!("one of {sku}: {state}")));
    }
    let event_type = if state.removed { REMOVED.name } else { CHANGED.name };
    if step.row.event_type != event_type {
        let expected = format!("{event_type}, as its payload says");
        return Some(Wrong::new(Kind::TwoContents, expected, &step.row.event_type));
    }
    if let Some(last) = last {
        if state.version == last.state.version {
            let same = state.has_content_of(&last.state);
            let wrong = || Wrong::new(Kind::TwoContents, last.state.to_string(), state.to_string());
            return (!same).then(wrong);
        }
        if state.updated_at < last.state.updated_at {
            let expected = format!("not before {}", last.state.updated_at);
            return Some(Wrong::new(Kind::VersionDown, expected, state.to_string()));
        }
    }
    noted(kept, step, state).or_else(|| amount(kept, last?, step, state))
}

/// Whether what caused the state is noted, and with the same version.
fn noted(kept: &Kept, step: &Step, state: &State) -> Option<Wrong> {
    let missing = |what: String, since: Timestamp| {
        let is_young = step.row.created_us > since && state.updated_at > since;
        is_young.then(|| Wrong::new(Kind::CauseMissing, what, format!("none; {state}")))
    };
    let version = state.version;
    let at = |order: EventId, noted: i64| {
        let expected = format!("the stock changed once, with version {noted}, for order {order}");
        (noted != version).then(|| Wrong::new(Kind::DeductedTwice, expected, state.to_string()))
    };
    match (state.changed_by(), &step.adjustment, &step.deduction) {
        (ChangedBy::Adjustment, None, _) => {
            missing(format!("an adjustment that made version {version}"), kept.adjustments)
        }
        (ChangedBy::Adjustment, Some(adjustment), _) if adjustment.quantity != state.quantity => {
            let expected = format!("{}, by the adjustment {}", adjustment.quantity, adjustment.seq);
            Some(Wrong::new(Kind::StockUnexplained, expected, state.to_string()))
        }
        (ChangedBy::Placed(order) | ChangedBy::Cancelled(order), _, None) => {
            let since = kept.records.max(kept.product_events);
            let is_known = order.made_at() > since;
            let what = format!("a deduction of order {order}");
            if is_known { missing(what, since) } else { None }
        }
        (ChangedBy::Placed(order), _, Some(taken)) => at(order, taken.version),
        (ChangedBy::Cancelled(order), _, Some(taken)) => {
            at(order, taken.returned_version.unwrap_or(0))
        }
        _ => None,
    }
}

/// Whether the stock changed by what its cause says.
fn amount(kept: &Kept, last: &Link, step: &Step, state: &State) -> Option<Wrong> {
    let (before, deducted) = (&last.state, step.deduction.as_ref().map(|taken| taken.quantity));
    let delta = match state.changed_by() {
        ChangedBy::Adjustment => step.adjustment.as_ref()?.delta,
        ChangedBy::Placed(_) => deducted?.checked_neg()?,
        ChangedBy::Cancelled(_) => deducted?,
        ChangedBy::Removal => before.quantity.checked_neg()?,
        // Its first event may have gone, or, by another clock, come behind.
        ChangedBy::Nothing => return None,
        ChangedBy::Put | ChangedBy::Unknown => 0,
    };
    if state.version != before.version + 1 {
        // A product that comes again after its tombstone went begins above all versions that went.
        if before.removed && state.changed_by() == ChangedBy::Put {
            return None;
        }
        // Retention may have taken what lies between, unless the one before it is younger than that.
        let expected = format!("an event of version {}", before.version + 1);
        let is_known = last.made.is_some_and(|made| made > kept.product_events);
        let found = format!("the next one is {state}");
        return is_known.then(|| Wrong::new(Kind::ChangeUntold, expected, found));
    }
    let expected = before.quantity.checked_add(delta);
    let is_any = matches!(state.changed_by(), ChangedBy::Put | ChangedBy::Unknown);
    (!is_any && expected != Some(state.quantity)).then(|| {
        let sum = format!("{} {delta:+} = {}", before.quantity, expected.unwrap_or_default());
        Wrong::new(Kind::StockUnexplained, sum, state.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{adjusted, kind, opening, state, step, taken};
    use super::*;
    use crate::check::rows::AdjustmentRow;

    #[test]
    fn stock_changes_by_what_its_cause_says() {
        assert_eq!(kind(&[opening(), adjusted(2, 7, -3), taken(3, 5, (2, 3))]), None);
        assert_eq!(kind(&[opening(), adjusted(2, 8, -3)]), Some(Kind::StockUnexplained));
        assert_eq!(kind(&[opening(), taken(2, 9, (2, 2))]), Some(Kind::StockUnexplained));
        let mut other = adjusted(2, 7, -3);
        other.adjustment = other.adjustment.map(|row| AdjustmentRow { quantity: 6, ..row });
        assert_eq!(kind(&[opening(), other]), Some(Kind::StockUnexplained));
    }

    #[test]
    fn what_is_told_again_changes_nothing() {
        let resync = step(state(1, 10, ("resync", None)));
        let repair = step(state(5, 10, ("repair", None)));
        assert_eq!(kind(&[opening(), resync, repair, adjusted(6, 9, -1)]), None);
        let other = step(state(1, 11, ("resync", None)));
        assert_eq!(kind(&[opening(), other]), Some(Kind::TwoContents));
    }

    #[test]
    fn a_cause_is_noted_once() {
        let missing = Step { adjustment: None, ..adjusted(2, 7, -3) };
        assert_eq!(kind(&[opening(), missing]), Some(Kind::CauseMissing));
        // The same order's deduction, once more.
        assert_eq!(
            kind(&[opening(), taken(2, 8, (2, 2)), taken(3, 6, (2, 2))]),
            Some(Kind::DeductedTwice)
        );
    }

    #[test]
    fn a_version_that_is_missing_is_a_change_that_nobody_was_told() {
        assert_eq!(kind(&[opening(), adjusted(3, 7, -3)]), Some(Kind::ChangeUntold));
    }

    #[test]
    fn a_product_that_comes_again_may_begin_anywhere() {
        let removed = State { removed: true, ..state(2, 0, ("removal", None)) };
        let again =
            |cause| kind(&[opening(), step(removed.clone()), step(state(9, 4, (cause, None)))]);
        assert_eq!(again("put"), None);
        assert_eq!(again("removal"), Some(Kind::ChangeUntold));
    }

    #[test]
    fn an_event_is_what_its_payload_says() {
        let named = |sku: &str| State { sku: Some(sku.to_owned()), ..state(1, 10, ("put", None)) };
        assert_eq!(kind(&[step(named("TEA"))]), None);
        assert_eq!(kind(&[step(named("MILK"))]), Some(Kind::TwoContents));
        let mut gone = opening();
        gone.row.event_type = REMOVED.name.to_owned();
        assert_eq!(kind(&[gone]), Some(Kind::TwoContents));
    }

    #[test]
    fn time_goes_on_with_the_versions() {
        let mut early = adjusted(2, 7, -3);
        early.state = early.state.map(|state| State { updated_at: Timestamp::default(), ..state });
        assert_eq!(kind(&[opening(), early]), Some(Kind::VersionDown));
    }
}
