//! What there is much of at once, and what there was and goes again.

use std::ops::RangeInclusive;
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

/// Months that pass one by one, each of so many days: more than a year, as long as orders are kept.
const MONTHS: u64 = 13;
const DAYS: RangeInclusive<u64> = 29..=33;

/// Then a year passes at once: adjustments are kept for two.
const YEAR: u32 = 365;

/// Between two months, at the least and at the most.
const PAUSE_MS: (u64, u64) = (400, 60_000);

/// Products whose events give up and wait for ever; those that are removed for good; and those of which order-service refuses
/// what comes in the first month.
const GIVEN_UP: u32 = 20;
const WITHDRAWN: u32 = 20;
const REFUSED: u32 = 8;
const REFUSED_FROM_MS: u64 = 1_000;

/// Clients go on so long once all that time has passed: there has to be something young.
const AFTER_MS: u64 = 3_000;

/// Long enough for what came last to go, too.
const FORGOTTEN_MS: u64 = 15_000;

/// All that is settled goes while more comes, and processes are killed in the middle of that.
pub(super) fn forget(draw: &mut Draw) {
    draw.at(0, Fault::Forget);
    instances::kill(draw);
    draw.calm(FORGOTTEN_MS);
}

/// Two years pass, mostly by months; before some, a process ends that comes back a month later.
pub(super) fn let_years_pass(draw: &mut Draw) {
    for fault in [Fault::Flood(GIVEN_UP), Fault::Nonsense, Fault::Withdraw(WITHDRAWN)] {
        draw.at(0, fault);
    }
    // So much later, its alerts are in other mails than those of what waits for ever.
    draw.at(REFUSED_FROM_MS, Fault::Quarantine(REFUSED));
    let (least, most) = PAUSE_MS;
    let pause = draw.part(MONTHS + 1).clamp(least, most);
    let (mut at, mut side) = (REFUSED_FROM_MS, draw.side());
    for month in 1..=MONTHS {
        at += draw.within(pause / 2..=pause * 3 / 2);
        let away = month.is_multiple_of(3).then(|| draw.instance(side));
        if let Some(who) = away {
            draw.at(at, Fault::Terminate(who));
            side = side.other();
        }
        pass(draw, at, DAYS);
        if let Some(who) = away {
            draw.at(at, Fault::Start(who));
        }
        if month == 1 {
            draw.at(at, Fault::Release);
            draw.at(at, Fault::Discard);
        }
    }
    draw.at(at + pause, Fault::Pass(YEAR));
    draw.calm(AFTER_MS);
}

fn pass(draw: &mut Draw, at: u64, days: RangeInclusive<u64>) {
    let days = u32::try_from(draw.within(days)).unwrap_or(u32::MAX);
    draw.at(at, Fault::Pass(days));
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
