//! The owner's transactions: how a row changes, and what comes of it. Each decision is the engine's.

use common::clock::Timestamp;
use common::event::{EventKind, Status};
use engine::consumers::Voice;
use engine::kafka::{Ack, Verdict};
use engine::outbox::{AnswerRow, Answers, OpenRow, Said, Transition, Trigger, step};

use super::state::{Answer, Place, Reply, Row, State};
use super::{Flaw, Loop, PARTITION, SHARD, id_of, name_of};

/// So many attempts more are as good as no limit.
const BEYOND_LIMITS: i32 = 1_000;

impl Loop {
    /// What `trigger` does to an event, with all effects, as one transaction.
    pub(super) fn advance(&self, state: &mut State, event: Place, trigger: Trigger) -> Option<()> {
        let row = state.rows.get_mut(event).filter(|row| row.status != Status::Processed)?;
        let (kind, now) = (self.bounds.kind, Timestamp::default());
        let beyond = if self.has(Flaw::NoLimit) { BEYOND_LIMITS } else { 0 };
        let mut open = open_row(event, row);
        open.attempt_limit += beyond;
        match step(&open, kind, trigger, now, &self.policy, 0.0) {
            Transition::Stay => {}
            Transition::Change(after) => {
                // Whatever a person or a newer version does to what waits for a person ends its alert.
                if row.status == Status::Exhausted {
                    row.alerts = 0;
                }
                take_over(row, &after);
                row.limit -= beyond;
            }
            Transition::Exhaust(after) => {
                take_over(row, &after);
                row.limit -= beyond;
                row.alerts += u8::from(!self.has(Flaw::NoAlert));
                self.supersede_overtaken(state, event)?;
            }
            Transition::Settle => {
                (row.status, row.offset, row.alerts) = (Status::Processed, None, 0);
                // Answers to what is PROCESSED change nothing any more.
                state.answers.retain(|answer| answer.event != event);
                self.supersede_older(state, event);
            }
        }
        Some(())
    }

    /// Resolves what gives up now although a newer version is PROCESSED.
    fn supersede_overtaken(&self, state: &mut State, event: Place) -> Option<()> {
        let is_newer = |(other, row): (Place, &Row)| {
            row.status == Status::Processed && self.version(other) > self.version(event)
        };
        match self.is_snapshot() && state.rows.iter().enumerate().any(is_newer) {
            true => self.advance(state, event, Trigger::Superseded),
            false => Some(()),
        }
    }

    /// Resolves what gave up of an older version than `event`, which is PROCESSED.
    fn supersede_older(&self, state: &mut State, event: Place) {
        let is_older = |other: &Place| self.version(*other) < self.version(event);
        let older: Vec<Place> = (0..state.rows.len()).filter(is_older).collect();
        for other in older.into_iter().filter(|_| self.is_snapshot()) {
            let _ended = self.advance(state, other, Trigger::Superseded);
        }
    }

    fn is_snapshot(&self) -> bool {
        self.bounds.kind == EventKind::Snapshot
    }

    /// An answer arrives.
    pub(super) fn settle(&self, state: &mut State, answer: &Answer) -> Option<()> {
        let (ack, consumers) = (ack(answer), self.consumers(state));
        if consumers.voice(&ack.consumer, ack.event_id) != Voice::Counts {
            return None;
        }
        let row = state.rows.get_mut(answer.event)?;
        if row.status == Status::Processed {
            return None;
        }
        let consumer = state.consumers.get_mut(answer.consumer)?;
        consumer.proven = consumer.proven.max(open_row(answer.event, row).proven_by(&ack));
        let mut trigger = Trigger::answered_by(&ack);
        if consumers.share_events() {
            let mut answers = answers_to(answer.event, row);
            let meaning = answers.take(&consumers, &ack, self.bounds.kind, trigger);
            row.answers = replies(&answers, row.answers.len());
            if !self.has(Flaw::FirstAnswerSettles) {
                trigger = meaning.trigger;
            }
        }
        self.advance(state, answer.event, trigger)
    }

    /// Whether an event still waits for a consumer.
    pub(super) fn is_owed(&self, state: &State, event: Place, consumer: Place) -> bool {
        let has_answered = state.rows.get(event).is_some_and(|row| {
            answers_to(event, row).of(name_of(consumer)).is_some_and(AnswerRow::is_final)
        });
        state.retired != Some(consumer) && !has_answered
    }

    /// What a retired consumer owed alone is settled.
    pub(super) fn let_off(&self, state: &mut State) -> Option<()> {
        let consumers = self.consumers(state);
        for event in 0..state.rows.len() {
            let row = state.rows.get(event)?;
            let is_unnoted = row.status == Status::Pending && row.attempt == 0;
            let is_seen = !(is_unnoted && self.has(Flaw::UnnotedNotLetOff));
            if is_seen && answers_to(event, row).are_enough(&consumers, id_of(event)) {
                let _ended = self.advance(state, event, Trigger::LetOff);
            }
        }
        state.is_letting_off = false;
        Some(())
    }
}

/// The row as the engine knows it.
fn open_row(event: Place, row: &Row) -> OpenRow {
    let noted = row.was_sent.then_some(Timestamp::default());
    OpenRow {
        id: id_of(event),
        shard: SHARD,
        status: row.status,
        attempt: row.attempt,
        attempt_limit: row.limit,
        due_us: Timestamp::default(),
        partition: noted.map(|_| PARTITION),
        sent_us: noted,
        sent_offset: row.offset,
        size: 1,
        resolved_us: row.is_resolved.then_some(Timestamp::default()),
    }
}

fn take_over(row: &mut Row, after: &OpenRow) {
    row.status = after.status;
    row.attempt = after.attempt;
    row.limit = after.attempt_limit;
    row.offset = after.sent_offset;
    row.was_sent = after.sent_us.is_some();
    row.is_resolved = after.resolved_us.is_some();
}

fn ack(answer: &Answer) -> Ack {
    let outcome = match answer.reply {
        Reply::Success => Verdict::Success,
        Reply::Rejected => Verdict::Rejected,
        Reply::Failed | Reply::Refused => Verdict::Failed,
    };
    Ack {
        event_id: id_of(answer.event),
        attempt: answer.attempt,
        outcome,
        detail: None,
        error: None,
        retryable: answer.reply == Reply::Failed,
        version: None,
        result: None,
        consumer: name_of(answer.consumer).to_owned(),
        processed_at: Timestamp::default(),
        traceparent: None,
        partition: Some(PARTITION),
        offset: Some(answer.offset),
    }
}

/// What was said of an event, as the engine keeps it.
fn answers_to(event: Place, row: &Row) -> Answers {
    let said = |(consumer, reply): (Place, &Option<Reply>)| {
        let outcome = match (*reply)? {
            Reply::Success => Said::Success,
            Reply::Rejected => Said::Rejected,
            Reply::Failed | Reply::Refused => Said::Failed,
        };
        Some(AnswerRow {
            event_id: id_of(event),
            consumer: name_of(consumer).to_owned(),
            outcome,
            attempt: 0,
            failures: 0,
            detail: None,
            error: None,
            version: None,
            result: None,
            processed_us: Timestamp::default(),
        })
    };
    row.answers.iter().enumerate().filter_map(said).collect()
}

/// The same, as the model keeps it: how often one failed changes nothing.
fn replies(answers: &Answers, consumers: usize) -> Vec<Option<Reply>> {
    let reply = |consumer| {
        answers.of(name_of(consumer)).map(|said| match said.outcome {
            Said::Success => Reply::Success,
            Said::Rejected => Reply::Rejected,
            Said::Failed => Reply::Failed,
        })
    };
    (0..consumers).map(reply).collect()
}
