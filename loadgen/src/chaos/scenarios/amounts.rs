//! What there is much of at once, and what there was and goes again.

use std::time::Duration;

use super::super::fault::{Fault, Who};
use super::super::plan::Draw;
use super::instances;
use crate::check::Side;

/// How long the services keep what they may forget, as [`SHORT`] says it.
pub(in crate::chaos) const KEPT: Duration = Duration::from_secs(10);

/// Months in seconds: all that may go so soon does. Orders, and what is left of removed products, stay for a day at least.
pub(super) const SHORT: [(&str, &str); 10] = [
    ("STOCKLOOP__RETENTION__CRON", "*/1 * * * * *"),
    ("STOCKLOOP__OUTBOX__RETENTION", "10s"),
    ("STOCKLOOP__INBOX__RETENTION", "10s"),
    ("STOCKLOOP__RETENTION__ADJUSTMENTS", "10s"),
    ("STOCKLOOP__RETENTION__RESOLVED_EVENTS", "10s"),
    ("STOCKLOOP__RETENTION__DEAD_LETTERS", "10s"),
    ("STOCKLOOP__ALERTS__RETENTION", "10s"),
    ("STOCKLOOP__ACCESS__AUDIT_RETENTION", "10s"),
    ("STOCKLOOP__VERIFY__RETENTION", "10s"),
    ("STOCKLOOP__VERIFY__KEYS_RETENTION", "10s"),
];

/// Long enough for what came last to go, too.
const FORGOTTEN_MS: u64 = 15_000;

/// All that is settled goes while more comes, and processes are killed in the middle of that.
pub(super) fn forget(draw: &mut Draw) {
    draw.at(0, Fault::Forget);
    instances::kill(draw);
    draw.calm(FORGOTTEN_MS);
}

/// First changes wait that are not sent, then messages that nobody takes, each more than the memory that is left would hold.
pub(super) fn pile_up(draw: &mut Draw) {
    let (begin, away) = (draw.within(500..=1_500), draw.within(2_000..=4_000));
    let order = Who { side: Side::Order, number: 1 };
    draw.at(begin, Fault::BoundMemory);
    draw.at(begin, Fault::Backlog);
    draw.at(begin + away, Fault::Terminate(order));
    draw.at(begin + away, Fault::Pile);
    draw.at(begin + away, Fault::Start(order));
}
