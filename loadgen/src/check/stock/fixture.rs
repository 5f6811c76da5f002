//! Events of one product, and what is said of them.

use common::clock::Timestamp;
use common::ids::EventId;
use common::inventory::{CHANGED, REMOVED};

use super::Chain;
use super::state::{Cause, State};
use super::steps::{EventRow, Step};
use crate::check::finding::Kind;
use crate::check::kept::Kept;
use crate::check::rows::{AdjustmentRow, DeductionRow, ProductRow};

pub(super) const AT: Timestamp = Timestamp::from_micros(1_000_000);

pub(super) fn kept() -> Kept {
    Kept::from_all(Timestamp::default())
}

pub(super) fn state(version: i64, quantity: i64, cause: (&str, Option<&str>)) -> State {
    let (kind, reason) = (cause.0.to_owned(), cause.1.map(str::to_owned));
    let reference = Some(EventId::MAX.to_string());
    let cause = Some(Cause { kind, reason, reference });
    State { cause, ..State::of_row(&ProductRow::tea(version, quantity, AT)) }
}

pub(super) fn step(state: State) -> Step {
    let row = EventRow {
        id: EventId::MAX,
        event_type: if state.removed { REMOVED.name } else { CHANGED.name }.to_owned(),
        key: "TEA".to_owned(),
        version: state.version,
        payload: String::new(),
        created_us: AT,
    };
    Step { row, state: Ok(state), adjustment: None, deduction: None }
}

pub(super) fn adjusted(version: i64, quantity: i64, delta: i64) -> Step {
    let sku = "TEA".to_owned();
    let adjustment = Some(AdjustmentRow { seq: 1, sku, version, delta, quantity });
    Step { adjustment, ..step(state(version, quantity, ("adjustment", None))) }
}

pub(super) fn taken(version: i64, quantity: i64, row: (i64, i64)) -> Step {
    let sku = "TEA".to_owned();
    let deduction = Some(DeductionRow {
        order_id: EventId::MAX,
        sku,
        quantity: row.0,
        version: row.1,
        returned_version: None,
    });
    Step { deduction, ..step(state(version, quantity, ("order", Some("placed")))) }
}

/// What is said of each of `steps`.
pub(super) fn kinds(steps: &[Step]) -> Vec<Option<Kind>> {
    let kept = kept();
    let mut chain = Chain { kept: &kept, last: None };
    let mut take = |step: &Step| chain.take(step.clone())?.judge(&kept);
    steps.iter().map(|step| take(step).map(|finding| finding.kind)).collect()
}

/// What is said of the last of `steps`, of the others nothing.
pub(super) fn kind(steps: &[Step]) -> Option<Kind> {
    let mut told = kinds(steps);
    let last = told.pop().flatten();
    assert!(told.iter().all(Option::is_none), "{told:?}");
    last
}

pub(super) fn opening() -> Step {
    step(state(1, 10, ("put", None)))
}
