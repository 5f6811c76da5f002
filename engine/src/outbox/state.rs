//! The life of an event, as one function: [`step`] says what any trigger does to any state.
//!
//! Nothing else decides about a transition. The set-based SQL of the relay and of the settler either calls it
//! or repeats one line of it; the tests hold the two against each other on both databases.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::event::{EventKind, Status};
use common::retry::Backoff;

use super::listener::Listener;
use super::model::OpenRow;
use crate::kafka::{Ack, Verdict};

/// What the consumer said about one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckOutcome {
    /// It has its effect.
    Success,
    /// Handled, the answer is no. Commands only.
    Rejected,
    /// A technical fault.
    Failed {
        /// Whether another attempt may pass.
        retryable: bool,
    },
}

/// Something that happens to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The broker confirmed the produce of `attempt`.
    Confirmed {
        /// Which attempt.
        attempt: i32,
        /// Which partition it lies in.
        partition: i32,
        /// Where in it, if the broker said so.
        offset: Option<i64>,
    },
    /// The broker confirmed that a SENT event was sent once more, to see whether anybody answers.
    Probed {
        /// The number of the repeated send.
        attempt: i32,
        /// Which partition it lies in now: the topic may have more than before.
        partition: i32,
        /// Where in it, if the broker said so.
        offset: Option<i64>,
    },
    /// This very message can't be produced, whatever the broker's state.
    Unproducible,
    /// The consumer answered `attempt`.
    Acked {
        /// Which attempt.
        attempt: i32,
        /// With what.
        outcome: AckOutcome,
    },
    /// One of several consumers answered for good, and others still owe an answer; or it said what it said before.
    Answered,
    /// Whoever still owed an answer is not asked any more, and all others gave theirs.
    LetOff,
    /// The consumer passed the event by without an answer.
    Overdue,
    /// A newer version of the same key is PROCESSED.
    Superseded,
    /// An operator wants `more` attempts.
    Retried {
        /// How many.
        more: i32,
    },
    /// An operator settles it by hand.
    Resolved,
}

impl Trigger {
    /// What `ack` is to its event, where it is the only one that is waited for.
    pub fn answered_by(ack: &Ack) -> Self {
        let outcome = match ack.outcome {
            Verdict::Success => AckOutcome::Success,
            Verdict::Rejected => AckOutcome::Rejected,
            Verdict::Failed => AckOutcome::Failed { retryable: ack.retryable },
        };
        Self::Acked { attempt: ack.attempt, outcome }
    }
}

/// What a trigger does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Nothing but a line in the history, if it is worth one.
    Stay,
    /// The row changes.
    Change(OpenRow),
    /// The row changes to EXHAUSTED, and an alert is raised in the same transaction.
    Exhaust(OpenRow),
    /// The event is PROCESSED: its open row goes, an open alert of it is closed.
    Settle,
}

/// What transitions need besides the event: the rules' numbers, and who listens.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Who acts on what becomes of events.
    pub listener: Option<Arc<dyn Listener>>,
}

impl Policy {
    /// For triggers that no pause follows.
    pub(super) const fn without_pause(listener: Option<Arc<dyn Listener>>) -> Self {
        Self { backoff: Backoff { base: Duration::ZERO, max: Duration::ZERO }, listener }
    }
}

impl OpenRow {
    fn with_status(&self, status: Status) -> Self {
        Self { status, ..self.clone() }
    }

    /// Whether `attempt` is the one whose answer is awaited: sent, or on its way and not yet marked.
    fn awaits(&self, attempt: i32) -> bool {
        match self.status {
            Status::Sent => self.attempt == attempt,
            Status::Pending => self.attempt + 1 == attempt && attempt <= self.attempt_limit,
            Status::Exhausted | Status::Processed => false,
        }
    }

    /// How far in its partition `ack` proves its consumer to be: to the message that it answers, and no further.
    pub fn proven_by(&self, ack: &Ack) -> Option<i64> {
        match (ack.partition, ack.offset) {
            // What lies behind the last send of its event was said of a topic that was made anew since.
            (Some(answered), Some(offset)) => self
                .sent_offset
                .filter(|sent| self.partition == Some(answered) && offset <= *sent)
                .map(|_| offset),
            // An older consumer: the attempt tells which send it was, unless that was repeated.
            _ => self
                .sent_offset
                .filter(|_| self.status == Status::Sent && self.attempt == ack.attempt),
        }
    }
}

/// What `trigger` does to an event that is not PROCESSED; `chance` (0 to 1) spreads the backoff.
pub fn step(
    row: &OpenRow,
    kind: EventKind,
    trigger: Trigger,
    now: Timestamp,
    policy: &Policy,
    chance: f64,
) -> Transition {
    let fail = |attempt: i32, retryable: bool| failed(row, attempt, retryable, now, policy, chance);
    match (row.status, trigger) {
        (Status::Pending, Trigger::Confirmed { attempt, partition, offset })
            if row.awaits(attempt) =>
        {
            Transition::Change(OpenRow {
                attempt,
                partition: Some(partition),
                sent_us: Some(now),
                sent_offset: offset,
                ..row.with_status(Status::Sent)
            })
        }
        // A probe has a number of its own, so that its answer can be told from a late one to the send before;
        // the limit rises with it, so it costs nothing of the budget.
        (Status::Sent, Trigger::Probed { attempt, partition, offset })
            if attempt == row.attempt + 1 =>
        {
            Transition::Change(OpenRow {
                attempt,
                attempt_limit: row.attempt_limit + 1,
                partition: Some(partition),
                sent_us: Some(now),
                sent_offset: offset,
                ..row.clone()
            })
        }
        (Status::Pending, Trigger::Unproducible) => fail(row.attempt + 1, true),
        (_, Trigger::Acked { outcome: AckOutcome::Success, .. }) => Transition::Settle,
        (_, Trigger::Acked { outcome: AckOutcome::Rejected, .. }) if kind == EventKind::Command => {
            Transition::Settle
        }
        // Only a command can be answered no: from a snapshot's consumer it is a flaw that stays one.
        (_, Trigger::Acked { attempt, outcome: AckOutcome::Rejected }) if row.awaits(attempt) => {
            fail(attempt, false)
        }
        (_, Trigger::Acked { attempt, outcome: AckOutcome::Failed { retryable } })
            if row.awaits(attempt) =>
        {
            fail(attempt, retryable)
        }
        (_, Trigger::LetOff) => Transition::Settle,
        (Status::Sent, Trigger::Overdue) => fail(row.attempt, true),
        (Status::Exhausted, Trigger::Superseded)
            if kind == EventKind::Snapshot && row.resolved_us.is_none() =>
        {
            Transition::Change(OpenRow { resolved_us: Some(now), ..row.clone() })
        }
        (Status::Exhausted, Trigger::Retried { more }) => Transition::Change(OpenRow {
            attempt_limit: row.attempt_limit.max(row.attempt.saturating_add(more.max(1))),
            due_us: now,
            sent_offset: None,
            resolved_us: None,
            ..row.with_status(Status::Pending)
        }),
        (Status::Exhausted, Trigger::Resolved) if row.resolved_us.is_none() => {
            Transition::Change(OpenRow { resolved_us: Some(now), ..row.clone() })
        }
        _ => Transition::Stay,
    }
}

fn failed(
    row: &OpenRow,
    attempt: i32,
    retryable: bool,
    now: Timestamp,
    policy: &Policy,
    chance: f64,
) -> Transition {
    if !retryable || attempt >= row.attempt_limit {
        return Transition::Exhaust(OpenRow { attempt, ..row.with_status(Status::Exhausted) });
    }
    let pause = policy.backoff.delay(u32::try_from(attempt).unwrap_or(0), chance);
    Transition::Change(OpenRow {
        attempt,
        due_us: now.after(pause),
        sent_offset: None,
        ..row.with_status(Status::Pending)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use common::env::Env;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
    const POLICY: Policy = Policy {
        backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) },
        listener: None,
    };

    fn row(status: Status, attempt: i32, attempt_limit: i32) -> OpenRow {
        let row = OpenRow {
            id: Env::system().event_id(),
            shard: 0,
            status: Status::Pending,
            attempt,
            attempt_limit,
            due_us: NOW,
            partition: None,
            sent_us: None,
            sent_offset: None,
            size: 1,
            resolved_us: None,
        };
        row.with_status(status)
    }

    fn failed_ack(attempt: i32, retryable: bool) -> Trigger {
        Trigger::Acked { attempt, outcome: AckOutcome::Failed { retryable } }
    }

    /// The state table, line by line: (status, attempt, limit, kind, trigger) → (status, attempt).
    #[test]
    fn the_state_table() {
        use EventKind::{Command, Snapshot};
        use Status::{Exhausted, Pending, Processed, Sent};
        let success = |attempt| Trigger::Acked { attempt, outcome: AckOutcome::Success };
        let rejected = |attempt| Trigger::Acked { attempt, outcome: AckOutcome::Rejected };
        let confirmed = |attempt| Trigger::Confirmed { attempt, partition: 3, offset: Some(7) };
        let table = [
            (Pending, 0, 5, Snapshot, confirmed(1), Sent, 1),
            (Pending, 1, 5, Snapshot, confirmed(1), Pending, 1),
            (Pending, 0, 5, Snapshot, Trigger::Unproducible, Pending, 1),
            (Pending, 4, 5, Snapshot, Trigger::Unproducible, Exhausted, 5),
            (Pending, 0, 5, Snapshot, success(1), Processed, 0),
            (Sent, 2, 5, Snapshot, success(1), Processed, 2),
            (Exhausted, 5, 5, Snapshot, success(2), Processed, 5),
            (Sent, 1, 5, Command, rejected(1), Processed, 1),
            (Sent, 1, 5, Snapshot, rejected(1), Exhausted, 1),
            (Sent, 1, 5, Snapshot, failed_ack(1, true), Pending, 1),
            (Pending, 0, 5, Snapshot, failed_ack(1, true), Pending, 1),
            (Sent, 1, 5, Snapshot, failed_ack(1, false), Exhausted, 1),
            (Sent, 5, 5, Snapshot, failed_ack(5, true), Exhausted, 5),
            (Sent, 3, 5, Snapshot, failed_ack(2, false), Sent, 3),
            (Exhausted, 5, 5, Snapshot, failed_ack(5, true), Exhausted, 5),
            (Sent, 1, 5, Snapshot, Trigger::Overdue, Pending, 1),
            (Sent, 5, 5, Snapshot, Trigger::Overdue, Exhausted, 5),
            (Pending, 1, 5, Snapshot, Trigger::Overdue, Pending, 1),
            (
                Sent,
                1,
                5,
                Snapshot,
                Trigger::Probed { attempt: 2, partition: 3, offset: Some(9) },
                Sent,
                2,
            ),
            (Exhausted, 5, 5, Snapshot, Trigger::Retried { more: 3 }, Pending, 5),
            (Sent, 1, 5, Snapshot, Trigger::Retried { more: 3 }, Sent, 1),
            (Exhausted, 5, 5, Command, Trigger::Superseded, Exhausted, 5),
            (Pending, 1, 5, Snapshot, Trigger::Answered, Pending, 1),
            (Sent, 1, 5, Snapshot, Trigger::Answered, Sent, 1),
            (Exhausted, 5, 5, Command, Trigger::Answered, Exhausted, 5),
            (Pending, 1, 5, Snapshot, Trigger::LetOff, Processed, 1),
            (Exhausted, 5, 5, Command, Trigger::LetOff, Processed, 5),
        ];
        for (status, attempt, limit, kind, trigger, to, to_attempt) in table {
            let before = row(status, attempt, limit);
            let (after, at) = match step(&before, kind, trigger, NOW, &POLICY, 0.5) {
                Transition::Stay => (status, attempt),
                Transition::Settle => (Processed, attempt),
                Transition::Change(row) | Transition::Exhaust(row) => (row.status, row.attempt),
            };
            assert_eq!(
                (after, at),
                (to, to_attempt),
                "{status:?} {attempt}/{limit} on {trigger:?}"
            );
        }
    }

    #[test]
    fn a_retry_raises_the_limit_and_never_resets_the_count() {
        let exhausted = row(Status::Exhausted, 5, 5);
        let retried = Trigger::Retried { more: 3 };
        let Transition::Change(after) =
            step(&exhausted, EventKind::Snapshot, retried, NOW, &POLICY, 0.5)
        else {
            panic!("a retry of an exhausted event must change it");
        };
        assert_eq!((after.attempt, after.attempt_limit), (5, 8));
    }

    fn triggers() -> impl Strategy<Value = Trigger> {
        let attempt = 0..8_i32;
        prop_oneof![
            attempt.clone().prop_map(|attempt| Trigger::Confirmed {
                attempt,
                partition: 0,
                offset: Some(1)
            }),
            attempt.clone().prop_map(|attempt| Trigger::Probed {
                attempt,
                partition: 0,
                offset: Some(2)
            }),
            Just(Trigger::Unproducible),
            (attempt, 0..4).prop_map(|(attempt, outcome)| Trigger::Acked {
                attempt,
                outcome: match outcome {
                    0 => AckOutcome::Success,
                    1 => AckOutcome::Rejected,
                    2 => AckOutcome::Failed { retryable: false },
                    _ => AckOutcome::Failed { retryable: true },
                },
            }),
            Just(Trigger::Overdue),
            Just(Trigger::Answered),
            Just(Trigger::LetOff),
            Just(Trigger::Superseded),
            (1..4_i32).prop_map(|more| Trigger::Retried { more }),
            Just(Trigger::Resolved),
        ]
    }

    proptest! {
        /// Every interleaving of sends, acks (late, doubled, wrong), silence and operators keeps the invariants.
        #[test]
        fn every_interleaving_keeps_the_invariants(
            script in prop::collection::vec(triggers(), 0..60),
            is_command: bool,
            limit in 1..6_i32,
            chance in 0.0..1.0_f64,
        ) {
            let kind = if is_command { EventKind::Command } else { EventKind::Snapshot };
            let mut now = NOW;
            let mut event = row(Status::Pending, 0, limit);
            let mut alerts = std::collections::HashSet::new();
            for trigger in script {
                now = now.after(Duration::from_secs(1));
                let before = event.clone();
                match step(&before, kind, trigger, now, &POLICY, chance) {
                    Transition::Settle => {
                        // Only a consumer's word ends an event: its own, or that of all who are still asked.
                        let by_ack = matches!(trigger, Trigger::LetOff | Trigger::Acked { outcome: AckOutcome::Success, .. })
                            || is_command && matches!(trigger, Trigger::Acked { outcome: AckOutcome::Rejected, .. });
                        prop_assert!(by_ack);
                        return Ok(());
                    }
                    Transition::Stay => {}
                    Transition::Exhaust(after) => {
                        prop_assert_eq!(after.status, Status::Exhausted);
                        prop_assert_ne!(before.status, Status::Exhausted);
                        prop_assert!(alerts.insert(after.attempt), "one alert for each exhaustion");
                        event = after;
                    }
                    Transition::Change(after) => {
                        prop_assert!(after.status != Status::Exhausted || before.status == Status::Exhausted);
                        event = after;
                    }
                }
                prop_assert!(event.attempt >= before.attempt, "attempt only grows");
                prop_assert!(event.attempt_limit >= before.attempt_limit, "the limit is only raised");
                prop_assert!(event.attempt <= event.attempt_limit);
                prop_assert!(event.resolved_us.is_none() || event.status == Status::Exhausted);
                prop_assert!(event.status != Status::Sent || event.sent_us.is_some());
            }
        }
    }
}
