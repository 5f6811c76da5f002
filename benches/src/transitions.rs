//! The life of an event: what each trigger does to each state.

use std::hint::black_box;
use std::time::Duration;

use common::event::{EventKind, Status};
use common::retry::Backoff;
use engine::outbox::{AckOutcome, OpenRow, Policy, Trigger, step};

use crate::{NOW, Part, event_id};

/// Rows of one run.
const ROWS: u16 = 1_000;

/// Steps through a thousand rows: most of them go straight, as they do in health.
pub(crate) fn step_all() -> Part {
    let policy = Policy {
        backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) },
        listener: None,
    };
    let steps: Vec<(OpenRow, Trigger)> = (0..ROWS).map(case).collect();
    Part::new("step", ROWS, move || {
        for (row, trigger) in &steps {
            let row = black_box(row);
            black_box(step(row, EventKind::Snapshot, *trigger, NOW, &policy, 0.5));
        }
        Ok(())
    })
}

fn case(number: u16) -> (OpenRow, Trigger) {
    let answered = |outcome| (Status::Sent, Trigger::Acked { attempt: 1, outcome });
    let (status, trigger) = match number % 20 {
        0..=8 => {
            (Status::Pending, Trigger::Confirmed { attempt: 1, partition: 3, offset: Some(7) })
        }
        9..=17 => answered(AckOutcome::Success),
        18 => answered(AckOutcome::Failed { retryable: true }),
        _ => (Status::Sent, Trigger::Overdue),
    };
    let is_sent = status == Status::Sent;
    let row = OpenRow {
        id: event_id(number),
        shard: 3,
        status,
        attempt: is_sent.into(),
        attempt_limit: 5,
        due_us: NOW,
        partition: is_sent.then_some(3),
        sent_us: is_sent.then_some(NOW),
        sent_offset: is_sent.then_some(7),
        size: 245,
        resolved_us: None,
    };
    (row, trigger)
}
