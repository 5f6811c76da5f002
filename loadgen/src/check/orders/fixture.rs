//! An order of tea on both sides.

use common::clock::Timestamp;
use common::ids::EventId;

use super::rows::{Lines, OrderRow, Ordered, RecordRow, Taken};
use crate::check::kept::Kept;

pub(super) const AT: Timestamp = Timestamp::from_micros(1_000_000);

pub(super) fn tea(quantity: i64) -> Lines {
    Lines::from([("TEA".to_owned(), (quantity, None))])
}

pub(super) fn order(status: &str) -> Ordered {
    let cancellation = (status == "CANCELLED").then(|| "DONE".to_owned());
    let row = OrderRow {
        id: EventId::MAX,
        status: status.to_owned(),
        cancellation,
        revision: 2,
        changed_us: AT,
        on_its_way: false,
        unpromised: false,
        lost: false,
        made_good: false,
    };
    Ordered { row, lines: tea(3) }
}

pub(super) fn taken(state: &str) -> Taken {
    let (id, state) = (EventId::MAX, state.to_owned());
    let took = matches!(state.as_str(), "DEDUCTED" | "RETURNED");
    let returned = state == "RETURNED";
    let row = RecordRow { id, state, handled_us: AT, cancelled_us: None };
    Taken { row, lines: if took { tea(3) } else { Lines::new() }, returned }
}

pub(super) fn kept() -> Kept {
    Kept::from_all(Timestamp::from_micros(-1))
}
