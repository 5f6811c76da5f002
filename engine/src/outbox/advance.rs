//! The one way by which an event changes state after it was sent: lock, [`step`], write back, with all effects
//! in the same transaction. Acks, lateness, broken messages and operators all come through here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::event::{EventFacts, EventKind, Status};
use common::ids::EventId;
use common::telemetry::few_for_the_log;
use common::trace_context::{is_sampled, trace_id};
use diesel::QueryResult;

use super::class::{NO_ANSWER, error_class};
use super::listener::{Became, Listener, Turn};
use super::model::{HistoryRow, OpenRow, SettledRow};
use super::state::{AckOutcome, Happening, Policy, Step, step};
use super::store;
use crate::alerts::{self, AlertKind, NewAlert};
use crate::counters;
use crate::kafka::{Ack, Verdict};

const SILENCE: &str = "the consumer gave no answer, although it answered what was sent later";

/// Something that happened to one event, with what its history has to say of it.
#[derive(Debug, Clone)]
pub(super) struct Occurrence {
    pub(super) id: EventId,
    pub(super) happening: Happening,
    pub(super) error: Option<String>,
    pub(super) by_whom: Option<String>,
    /// The answer, if this is one.
    pub(super) ack: Option<Ack>,
}

impl Occurrence {
    pub(super) fn new(id: EventId, happening: Happening) -> Self {
        Self { id, happening, error: None, by_whom: None, ack: None }
    }

    pub(super) fn answered(ack: Ack) -> Self {
        let outcome = match ack.outcome {
            Verdict::Success => AckOutcome::Success,
            Verdict::Rejected => AckOutcome::Rejected,
            Verdict::Failed => AckOutcome::Failed { retryable: ack.retryable },
        };
        let happening = Happening::Acked { attempt: ack.attempt, outcome };
        Self {
            id: ack.event_id,
            happening,
            error: ack.error.clone(),
            by_whom: None,
            ack: Some(ack),
        }
    }

    #[must_use]
    pub(super) fn because(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// An event that became PROCESSED, for whoever measures.
#[derive(Debug, Clone, Copy)]
pub struct SettledEvent {
    /// When it was committed.
    pub created: Timestamp,
    /// When its consumer handled it.
    pub processed: Option<Timestamp>,
    /// Whether the answer was SUCCESS (else REJECTED).
    pub success: bool,
}

/// An answer that belongs to a recorded trace.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The event.
    pub id: EventId,
    /// What it is about.
    pub key: String,
    /// The attempt that was answered.
    pub attempt: i32,
    /// The answer.
    pub verdict: Verdict,
    /// Where the step that answered is in its trace.
    pub traceparent: String,
    /// The event's status now.
    pub status: Status,
}

/// An event that waits for a person now.
#[derive(Debug, Clone)]
pub struct GaveUp {
    id: EventId,
    key: String,
    attempt: i32,
    /// The trace of the answer, if an answer was the reason.
    traceparent: Option<String>,
}

/// What became of the events that something happened to.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Events that are PROCESSED now.
    pub settled: Vec<SettledEvent>,
    /// The answers of traces that are recorded.
    pub heard: Vec<Heard>,
    /// Events that are EXHAUSTED now, for the log.
    pub gave_up: Vec<GaveUp>,
    /// Events that are EXHAUSTED now.
    pub exhausted: usize,
    /// Events that are PENDING again.
    pub again: usize,
    /// The rows as they are now, of events that are still open.
    pub rows: Vec<OpenRow>,
    /// Ids that are not open: PROCESSED before, or never heard of.
    pub not_open: Vec<EventId>,
    /// What left the state SENT: partition, events, bytes.
    pub landed: BTreeMap<i32, (i64, i64)>,
    /// Partitions that gave answers, and the latest moment of sending that these prove to be reached.
    pub answered: BTreeMap<i32, Option<Timestamp>>,
}

impl Advanced {
    /// Logs what gave up; to be called once that is committed.
    pub(super) fn log_exhausted(&self) {
        for event in few_for_the_log(&self.gave_up) {
            let GaveUp { id, key, attempt, traceparent } = event;
            let trace_id = traceparent.as_deref().and_then(trace_id);
            tracing::error!(event_id = %id, key, attempt, trace_id, "an event is EXHAUSTED and waits for a person");
        }
    }
}

/// Applies `occurrences`, in order, to the events that they are about.
pub(super) fn advance(
    conn: &mut Conn,
    env: &Env,
    policy: &Policy,
    occurrences: Vec<Occurrence>,
) -> QueryResult<Advanced> {
    let mut ids: BTreeSet<EventId> = occurrences.iter().map(|occurrence| occurrence.id).collect();
    let older = perhaps_superseded(conn, &occurrences)?;
    ids.extend(&older);
    // All events in one go, sorted, and before any alert: whoever locks both does it in this order.
    let ids: Vec<EventId> = ids.into_iter().collect();
    let locked = store::lock(conn, &ids)?;
    let mut work = Work::new(env, policy, locked);
    for occurrence in occurrences {
        work.take(occurrence);
    }
    work.supersede(older);
    work.supersede(store::overtaken_among(conn, &work.gave_up)?);
    work.write(conn)
}

/// EXHAUSTED events that these answers make superfluous, if they settle what they are about.
fn perhaps_superseded(conn: &mut Conn, occurrences: &[Occurrence]) -> QueryResult<Vec<EventId>> {
    let success = |occurrence: &&Occurrence| {
        matches!(occurrence.happening, Happening::Acked { outcome: AckOutcome::Success, .. })
    };
    let ids: Vec<EventId> = occurrences.iter().filter(success).map(|o| o.id).collect();
    if ids.is_empty() || !alerts::any_open(conn)? {
        return Ok(Vec::new());
    }
    let facts = store::facts_of(conn, &ids)?;
    let newer: Vec<(String, i64, i64)> =
        facts.into_iter().map(|facts| (facts.key, facts.epoch, facts.version)).collect();
    alerts::superseded_by(conn, &newer)
}

/// The rows in hand and the effects gathered so far.
struct Work<'a> {
    env: &'a Env,
    policy: &'a Policy,
    now: Timestamp,
    rows: BTreeMap<EventId, (OpenRow, EventFacts)>,
    changed: BTreeSet<EventId>,
    settled: Vec<SettledRow>,
    history: Vec<HistoryRow>,
    alerts: Vec<NewAlert>,
    calmed: Vec<(EventId, &'static str)>,
    /// Snapshots that are EXHAUSTED now.
    gave_up: Vec<EventId>,
    /// (key, epoch, version) of snapshots that were applied: older exhausted ones are superfluous now.
    newest: Vec<(String, i64, i64)>,
    /// Keys whose copy took a new state.
    applied: BTreeSet<String>,
    /// What the listener gets to hear.
    turns: Vec<Turn>,
    done: Advanced,
}

impl<'a> Work<'a> {
    fn new(env: &'a Env, policy: &'a Policy, locked: Vec<(OpenRow, EventFacts)>) -> Self {
        Self {
            env,
            policy,
            now: env.now(),
            rows: locked.into_iter().map(|(row, facts)| (row.id, (row, facts))).collect(),
            changed: BTreeSet::new(),
            settled: Vec::new(),
            history: Vec::new(),
            alerts: Vec::new(),
            calmed: Vec::new(),
            gave_up: Vec::new(),
            newest: Vec::new(),
            applied: BTreeSet::new(),
            turns: Vec::new(),
            done: Advanced::default(),
        }
    }

    fn take(&mut self, occurrence: Occurrence) {
        let Some((row, facts)) = self.rows.get(&occurrence.id).cloned() else {
            self.done.not_open.push(occurrence.id);
            return;
        };
        if let Happening::Acked { attempt, .. } = occurrence.happening {
            self.note_answer(&row, attempt);
        }
        let kind = EventKind::of_code(facts.kind);
        let chance = self.env.chance();
        let next = step(&row, kind, occurrence.happening, self.now, self.policy, chance);
        self.remember(&row, &occurrence, &next);
        self.follow(&row, &facts, &occurrence, &next);
        match next {
            Step::Stay => {}
            Step::Change(after) => self.change(&row, after, facts, &occurrence),
            Step::Exhaust(after) => self.exhaust(&row, after, facts, &occurrence),
            Step::Settle => self.settle(&row, facts, occurrence),
        }
    }

    /// The answer to an earlier send proves nothing of the later one's time.
    fn note_answer(&mut self, row: &OpenRow, attempt: i32) {
        let Some(partition) = row.partition else { return };
        let proven = row.sent_us.filter(|_| row.status() == Status::Sent && row.attempt == attempt);
        let answered = self.done.answered.entry(partition).or_default();
        *answered = (*answered).max(proven);
    }

    fn remember(&mut self, row: &OpenRow, occurrence: &Occurrence, next: &Step) {
        let stayed = matches!(next, Step::Stay);
        let (what, attempt) = match occurrence.happening {
            Happening::Acked { attempt, outcome: AckOutcome::Failed { .. } } if stayed => {
                ("LATE", attempt)
            }
            Happening::Acked { attempt, outcome: AckOutcome::Failed { .. } } => ("FAILED", attempt),
            Happening::Acked { attempt, outcome: AckOutcome::Rejected }
                if *next != Step::Settle =>
            {
                ("REJECTED", attempt)
            }
            _ if stayed => return,
            Happening::Acked { .. } | Happening::Confirmed { .. } => return,
            Happening::Probed { attempt } => ("PROBED", attempt),
            Happening::Unproducible => ("UNPRODUCIBLE", row.attempt + 1),
            Happening::Overdue => ("OVERDUE", row.attempt),
            Happening::Superseded => ("SUPERSEDED", row.attempt),
            Happening::Retried { .. } => ("RETRIED", row.attempt),
            Happening::Resolved => ("RESOLVED", row.attempt),
        };
        let class = match (&occurrence.error, &occurrence.by_whom) {
            (_, Some(_person)) => None,
            (Some(error), None) => Some(error_class(error)),
            (None, None) => (what == "OVERDUE").then(|| NO_ANSWER.to_owned()),
        };
        self.history.push(HistoryRow {
            event_id: row.id,
            at_us: self.now,
            attempt,
            sent_us: row.sent_us.filter(|_| attempt == row.attempt),
            what: what.to_owned(),
            error: occurrence.error.clone(),
            by_whom: occurrence.by_whom.clone(),
            class,
        });
    }

    /// Keeps an answer whose trace is recorded.
    fn follow(&mut self, row: &OpenRow, facts: &EventFacts, why: &Occurrence, next: &Step) {
        let Some(ack) = &why.ack else { return };
        let Some(traceparent) = ack.traceparent.clone().filter(|text| is_sampled(text)) else {
            return;
        };
        self.done.heard.push(Heard {
            id: row.id,
            key: facts.key.clone(),
            attempt: ack.attempt,
            verdict: ack.outcome,
            traceparent,
            status: match next {
                Step::Stay => row.status(),
                Step::Settle => Status::Processed,
                Step::Change(after) | Step::Exhaust(after) => after.status(),
            },
        });
    }

    fn change(&mut self, before: &OpenRow, after: OpenRow, facts: EventFacts, why: &Occurrence) {
        match why.happening {
            Happening::Retried { .. } => self.calmed.push((after.id, "retried by an operator")),
            Happening::Resolved => self.calmed.push((after.id, "resolved by an operator")),
            Happening::Superseded => self.calmed.push((after.id, "superseded by a newer version")),
            Happening::Probed { .. } => {}
            _ => {
                self.leave_flight(before);
                self.done.again += 1;
            }
        }
        self.tell(&facts, || match why.happening {
            Happening::Retried { .. } => {
                Some(Became::Retried { by: why.by_whom.clone(), reason: why.error.clone() })
            }
            Happening::Resolved | Happening::Superseded => {
                Some(Became::Resolved { by: why.by_whom.clone(), reason: why.error.clone() })
            }
            Happening::Probed { .. } | Happening::Confirmed { .. } => None,
            _ => Some(Became::Again),
        });
        self.keep(after, facts);
    }

    fn exhaust(&mut self, before: &OpenRow, after: OpenRow, facts: EventFacts, why: &Occurrence) {
        self.leave_flight(before);
        self.done.exhausted += 1;
        self.done.gave_up.push(GaveUp {
            id: facts.id,
            key: facts.key.clone(),
            attempt: after.attempt,
            traceparent: why.ack.as_ref().and_then(|ack| ack.traceparent.clone()),
        });
        let why = why.error.as_deref().unwrap_or(SILENCE);
        self.tell(&facts, || Some(Became::Exhausted { error: why.to_owned() }));
        self.alerts.push(NewAlert::exhausted(&facts, after.attempt, why));
        if facts.kind == EventKind::Snapshot.code() {
            self.gave_up.push(facts.id);
        }
        self.keep(after, facts);
    }

    fn settle(&mut self, row: &OpenRow, facts: EventFacts, occurrence: Occurrence) {
        let Some(ack) = occurrence.ack else { return };
        self.leave_flight(row);
        self.rows.remove(&row.id);
        self.changed.remove(&row.id);
        self.calmed.push((row.id, "the event is PROCESSED"));
        let success = ack.outcome == Verdict::Success;
        if success && ack.detail.as_deref() == Some("applied") {
            self.applied.insert(facts.key.clone());
        }
        self.tell(&facts, || {
            let result = ack.result.as_ref().map(|result| result.get().to_owned());
            Some(match success {
                true => Became::Succeeded { result },
                false => Became::Rejected { result },
            })
        });
        if success && facts.kind == EventKind::Snapshot.code() {
            self.newest.push((facts.key, facts.epoch, facts.version));
        }
        self.done.settled.push(SettledEvent {
            created: facts.created_us,
            processed: Some(ack.processed_at),
            success,
        });
        let same_attempt = row.attempt == ack.attempt;
        self.settled.push(SettledRow {
            id: row.id,
            outcome: i16::from(!success),
            detail: ack.detail,
            attempt: ack.attempt,
            partition: row.partition,
            sent_us: row.sent_us.filter(|_| same_attempt),
            settled_us: self.now,
            processed_us: Some(ack.processed_at),
            version: ack.version,
            consumer: ack.consumer,
            result: ack.result.map(|result| result.get().to_owned()),
        });
    }

    /// Resolves those of `older` that gave up and whose key has a newer version that is PROCESSED by now.
    fn supersede(&mut self, older: Vec<EventId>) {
        for id in older {
            let Some((_, facts)) = self.rows.get(&id) else { continue };
            let own = (facts.epoch, facts.version);
            let gave_up_now = self.gave_up.contains(&id);
            let is_newer = |(key, epoch, version): &(String, i64, i64)| {
                *key == facts.key && (*epoch, *version) > own
            };
            if gave_up_now || self.newest.iter().any(is_newer) {
                self.take(Occurrence::new(id, Happening::Superseded));
            }
        }
    }

    /// Puts down what `became` of an event, if anybody listens.
    fn tell(&mut self, facts: &EventFacts, became: impl FnOnce() -> Option<Became>) {
        let listens = |listener: &Arc<dyn Listener>| listener.listens_to(&facts.event_type);
        if self.policy.listener.as_ref().is_some_and(listens) {
            let turn = |became| Turn { event: facts.clone(), became };
            self.turns.extend(became().map(turn));
        }
    }

    fn keep(&mut self, row: OpenRow, facts: EventFacts) {
        self.changed.insert(row.id);
        self.rows.insert(row.id, (row, facts));
    }

    fn leave_flight(&mut self, row: &OpenRow) {
        if let (Status::Sent, Some(partition)) = (row.status(), row.partition) {
            let landed = self.done.landed.entry(partition).or_default();
            landed.0 += 1;
            landed.1 += i64::from(row.size);
        }
    }

    fn write(mut self, conn: &mut Conn) -> QueryResult<Advanced> {
        let changed: Vec<OpenRow> = self
            .changed
            .iter()
            .filter_map(|id| self.rows.get(id).map(|(row, _)| row.clone()))
            .collect();
        self.settled.sort_unstable_by_key(|row| row.id);
        store::save(conn, &changed)?;
        store::settle(conn, &self.settled)?;
        store::note(conn, &self.history)?;
        self.speak_up(conn)?;
        if let (Some(listener), false) = (&self.policy.listener, self.turns.is_empty()) {
            listener.hear(conn, self.now, &self.turns)?;
        }
        let failed = self.done.again + self.done.exhausted;
        if failed > 0 {
            // After the rows, as every other count: whoever takes both takes them in this order.
            counters::add(conn, counters::FAILED, self.now, failed)?;
        }
        self.done.rows = self.rows.into_values().map(|(row, _)| row).collect();
        Ok(self.done)
    }

    /// Raises and closes alerts, and resolves what newer versions made superfluous.
    fn speak_up(&mut self, conn: &mut Conn) -> QueryResult<()> {
        alerts::raise_all(conn, self.now, std::mem::take(&mut self.alerts))?;
        let reasons: BTreeSet<&'static str> = self.calmed.iter().map(|(_, why)| *why).collect();
        for reason in reasons {
            let ids: Vec<EventId> =
                self.calmed.iter().filter(|(_, why)| *why == reason).map(|(id, _)| *id).collect();
            alerts::close(conn, self.now, &ids, reason)?;
        }
        self.close_told_versions(conn)
    }

    /// A key whose newest state was applied is no longer ahead of its source.
    fn close_told_versions(&self, conn: &mut Conn) -> QueryResult<()> {
        if self.newest.is_empty() {
            return Ok(());
        }
        let kind = AlertKind::VersionAboveSource;
        let told = alerts::open_keys(conn, kind)?;
        for key in told.iter().filter(|key| self.applied.contains(*key)) {
            alerts::close_kind(
                conn,
                self.now,
                kind,
                Some(key),
                "the copy follows its source again",
            )?;
        }
        Ok(())
    }
}
