//! The one way by which an event changes state after it was sent: lock, [`step`], write back, with all effects
//! in the same transaction. Acks, lateness, broken messages and operators all come through here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::event::{EventFacts, EventKind, Status};
use common::ids::EventId;
use common::trace_context::is_sampled;
use diesel::QueryResult;

use super::asked::Asked;
use super::class::{NO_ANSWER, error_class};
use super::listener::{EventChange, EventUpdate, Listener};
use super::model::{AnswerRow, HistoryRow, OpenRow, Said, SettledRow};
use super::state::{AckOutcome, Policy, Transition, Trigger, step};
use super::store::{self, Place};
use super::update::{Advanced, AnsweredTrace, ExhaustedEvent, SettledEvent, Update};
use crate::alerts::{self, AlertKind, NewAlert};
use crate::consumers::Consumers;
use crate::counters;
use crate::kafka::Ack;
use crate::outbox::{FinalOutcome, HistoryKind};

const SILENCE: &str = "gave no answer, although it answered what was sent later";

/// Superseded events that one step resolves at most; the others follow in steps of their own.
pub(super) const SUPERSEDED: usize = 1_000;

/// Applies `updates`, none of them an answer, in order to the events that they are about.
pub(super) fn advance(
    conn: &mut Conn,
    env: &Env,
    policy: &Policy,
    updates: Vec<Update>,
) -> QueryResult<Advanced> {
    advance_asked(conn, env, policy, None, updates)
}

/// Applies `updates`, in order, to the events that they are about; what answers are worth is known of `consumers`.
pub(super) fn advance_asked(
    conn: &mut Conn,
    env: &Env,
    policy: &Policy,
    consumers: Option<&Consumers>,
    updates: Vec<Update>,
) -> QueryResult<Advanced> {
    let mut ids: BTreeSet<EventId> = updates.iter().map(|update| update.id).collect();
    let older = perhaps_superseded(conn, &updates)?;
    let more = older.len() >= SUPERSEDED;
    ids.extend(&older);
    // All events in one go, sorted, and before any alert: whoever locks both does it in this order.
    let ids: Vec<EventId> = ids.into_iter().collect();
    let locked = store::lock(conn, &ids)?;
    let asked = Asked::load(conn, consumers, &ids)?;
    let mut batch = UpdateBatch::new(env, policy, locked, asked);
    for update in updates {
        batch.apply(update);
    }
    batch.supersede(older);
    batch.supersede_overtaken(conn)?;
    batch.write(conn, more)
}

/// EXHAUSTED events that these answers make superfluous, if they settle what they are about.
fn perhaps_superseded(conn: &mut Conn, updates: &[Update]) -> QueryResult<Vec<EventId>> {
    let success = |update: &&Update| {
        matches!(update.trigger, Trigger::Acked { outcome: AckOutcome::Success, .. })
    };
    let ids: Vec<EventId> = updates.iter().filter(success).map(|update| update.id).collect();
    if ids.is_empty() || !alerts::any_open(conn)? {
        return Ok(Vec::new());
    }
    let facts = store::facts_of(conn, &ids)?;
    let newer: Vec<(String, i64, i64)> =
        facts.into_iter().map(|facts| (facts.key, facts.epoch, facts.version)).collect();
    alerts::superseded_by(conn, &newer, SUPERSEDED)
}

/// The rows in hand and the effects gathered so far.
struct UpdateBatch<'a> {
    env: &'a Env,
    policy: &'a Policy,
    now: Timestamp,
    /// What single consumers said, where several are asked.
    asked: Asked<'a>,
    rows: BTreeMap<EventId, (OpenRow, EventFacts)>,
    /// Where each row was found.
    places: BTreeMap<EventId, Place>,
    changed: BTreeSet<EventId>,
    settled: Vec<SettledRow>,
    history: Vec<HistoryRow>,
    alerts: Vec<NewAlert>,
    alerts_to_close: Vec<(EventId, &'static str)>,
    /// Snapshots that are EXHAUSTED now.
    exhausted_snapshots: Vec<EventId>,
    /// The newest (epoch, version) of each key of which snapshots are PROCESSED now: older exhausted ones are superfluous.
    newest: BTreeMap<String, (i64, i64)>,
    /// Keys whose copy took a new state.
    applied: BTreeSet<String>,
    /// What the listener is told.
    event_updates: Vec<EventUpdate>,
    done: Advanced,
}

impl<'a> UpdateBatch<'a> {
    fn new(
        env: &'a Env,
        policy: &'a Policy,
        locked: Vec<(OpenRow, EventFacts)>,
        asked: Asked<'a>,
    ) -> Self {
        Self {
            env,
            policy,
            now: env.now(),
            asked,
            places: locked.iter().map(|(row, _)| (row.id, Place::of(row))).collect(),
            rows: locked.into_iter().map(|(row, facts)| (row.id, (row, facts))).collect(),
            changed: BTreeSet::new(),
            settled: Vec::new(),
            history: Vec::new(),
            alerts: Vec::new(),
            alerts_to_close: Vec::new(),
            exhausted_snapshots: Vec::new(),
            newest: BTreeMap::new(),
            applied: BTreeSet::new(),
            event_updates: Vec::new(),
            done: Advanced::default(),
        }
    }

    fn apply(&mut self, update: Update) {
        let Some((row, facts)) = self.rows.get(&update.id).cloned() else {
            self.done.not_open.push(update.id);
            return;
        };
        let mut trigger = update.trigger;
        if let Some(ack) = &update.ack {
            self.note_answer(&row, ack);
            trigger = self.asked.take(ack, facts.kind, trigger);
        }
        if trigger == Trigger::LetOff && !self.asked.is_settled(update.id) {
            return;
        }
        let kind = facts.kind;
        let chance = self.env.chance();
        let next = step(&row, kind, trigger, self.now, self.policy, chance);
        self.record_history(&row, kind, &update, &next);
        self.record_trace(&row, &facts, &update, &next);
        match next {
            Transition::Stay => {}
            Transition::Change(after) => self.change(&row, after, facts, &update),
            Transition::Exhaust(after) => self.exhaust(&row, after, facts, &update),
            Transition::Settle => self.settle(&row, facts, update),
        }
    }

    /// How far its consumer is known to be after an answer.
    fn note_answer(&mut self, row: &OpenRow, ack: &Ack) {
        let Some(partition) = row.partition else { return };
        let heard = (ack.consumer.clone(), partition);
        let answered = self.done.answered.entry(heard).or_default();
        *answered = (*answered).max(row.proven_by(ack));
    }

    fn record_history(
        &mut self,
        row: &OpenRow,
        kind: EventKind,
        update: &Update,
        next: &Transition,
    ) {
        let stayed = matches!(next, Transition::Stay);
        let (what, attempt) = match update.trigger {
            // To a command, no is an answer for good.
            Trigger::Acked { outcome: AckOutcome::Rejected, .. } if kind == EventKind::Command => {
                return;
            }
            Trigger::Acked {
                attempt,
                outcome: AckOutcome::Failed { .. } | AckOutcome::Rejected,
            } if stayed => (HistoryKind::Late, attempt),
            Trigger::Acked { attempt, outcome: AckOutcome::Failed { .. } } => {
                (HistoryKind::Failed, attempt)
            }
            Trigger::Acked { attempt, outcome: AckOutcome::Rejected } => {
                (HistoryKind::Rejected, attempt)
            }
            _ if stayed => return,
            Trigger::Acked { .. } | Trigger::Confirmed { .. } | Trigger::Answered => return,
            Trigger::LetOff => (HistoryKind::LetOff, row.attempt),
            Trigger::Probed { attempt, .. } => (HistoryKind::Probed, attempt),
            Trigger::Unproducible => (HistoryKind::Unproducible, row.attempt + 1),
            Trigger::Overdue => (HistoryKind::Overdue, row.attempt),
            Trigger::Superseded => (HistoryKind::Superseded, row.attempt),
            Trigger::Retried { .. } => (HistoryKind::Retried, row.attempt),
            Trigger::Resolved => (HistoryKind::Resolved, row.attempt),
        };
        let class = match (&update.error, &update.by_whom) {
            (_, Some(_person)) => None,
            (Some(error), None) => Some(error_class(error)),
            (None, None) => (what == HistoryKind::Overdue).then(|| NO_ANSWER.to_owned()),
        };
        self.history.push(HistoryRow {
            event_id: row.id,
            at_us: self.now,
            attempt,
            sent_us: row.sent_us.filter(|_| attempt == row.attempt),
            what,
            error: update.error.clone(),
            by_whom: update.by_whom.clone(),
            class,
            consumer: update.consumer.clone(),
        });
    }

    /// Keeps an answer whose trace is recorded.
    fn record_trace(&mut self, row: &OpenRow, facts: &EventFacts, why: &Update, next: &Transition) {
        let Some(ack) = &why.ack else { return };
        let Some(traceparent) = ack.traceparent.clone().filter(|text| is_sampled(text)) else {
            return;
        };
        self.done.traced.push(AnsweredTrace {
            id: row.id,
            key: facts.key.clone(),
            attempt: ack.attempt,
            verdict: ack.outcome,
            traceparent,
            status: match next {
                Transition::Stay => row.status,
                Transition::Settle => Status::Processed,
                Transition::Change(after) | Transition::Exhaust(after) => after.status,
            },
        });
    }

    fn change(&mut self, before: &OpenRow, after: OpenRow, facts: EventFacts, why: &Update) {
        match why.trigger {
            Trigger::Retried { .. } => {
                self.alerts_to_close.push((after.id, "retried by an operator"))
            }
            Trigger::Resolved => self.alerts_to_close.push((after.id, "resolved by an operator")),
            Trigger::Superseded => {
                self.alerts_to_close.push((after.id, "superseded by a newer version"))
            }
            Trigger::Probed { .. } => {}
            _ => {
                self.release(before);
                self.done.again += 1;
                if after.status == Status::Pending {
                    self.done.note_due(after.due_us);
                }
            }
        }
        self.notify_listener(&facts, || match why.trigger {
            Trigger::Retried { .. } => {
                Some(EventChange::Retried { by: why.by_whom.clone(), reason: why.error.clone() })
            }
            Trigger::Resolved | Trigger::Superseded => {
                Some(EventChange::Resolved { by: why.by_whom.clone(), reason: why.error.clone() })
            }
            Trigger::Probed { .. } | Trigger::Confirmed { .. } => None,
            _ => Some(EventChange::Retrying),
        });
        self.keep(after, facts);
    }

    fn exhaust(&mut self, before: &OpenRow, after: OpenRow, facts: EventFacts, why: &Update) {
        self.release(before);
        self.done.exhausted += 1;
        self.done.newly_exhausted.push(ExhaustedEvent {
            id: facts.id,
            key: facts.key.clone(),
            attempt: after.attempt,
            traceparent: why.ack.as_ref().and_then(|ack| ack.traceparent.clone()),
        });
        let why = self.words_of(why);
        self.notify_listener(&facts, || Some(EventChange::Exhausted { error: why.clone() }));
        self.alerts.push(NewAlert::exhausted(&facts, after.attempt, &why));
        if facts.kind == EventKind::Snapshot {
            self.exhausted_snapshots.push(facts.id);
        }
        self.keep(after, facts);
    }

    /// What an event failed of, and at whom where several are asked.
    fn words_of(&self, why: &Update) -> String {
        let consumer = why.consumer.as_deref().filter(|_| self.asked.are_several());
        match (&why.error, consumer) {
            (Some(error), Some(consumer)) => format!("{consumer}: {error}"),
            (Some(error), None) => error.clone(),
            (None, consumer) => format!("{} {SILENCE}", consumer.unwrap_or("the consumer")),
        }
    }

    fn settle(&mut self, row: &OpenRow, facts: EventFacts, update: Update) {
        let own = || update.ack.map(|ack| AnswerRow::of(ack, facts.kind));
        let Some(answer) = self.asked.decisive(row.id).or_else(own) else { return };
        self.release(row);
        self.rows.remove(&row.id);
        self.changed.remove(&row.id);
        self.alerts_to_close.push((row.id, "the event is PROCESSED"));
        let success = answer.outcome == Said::Success;
        if success && answer.detail.as_deref() == Some("applied") {
            self.applied.insert(facts.key.clone());
        }
        self.notify_listener(&facts, || {
            let result = answer.result.clone();
            Some(match success {
                true => EventChange::Succeeded { result },
                false => EventChange::Rejected { result },
            })
        });
        if success && facts.kind == EventKind::Snapshot {
            let newest = self.newest.entry(facts.key).or_default();
            *newest = (facts.epoch, facts.version).max(*newest);
        }
        self.done.settled.push(SettledEvent {
            created: facts.created_us,
            processed: Some(answer.processed_us),
            success,
        });
        let same_attempt = row.attempt == answer.attempt;
        self.settled.push(SettledRow {
            id: row.id,
            outcome: if success { FinalOutcome::Success } else { FinalOutcome::Rejected },
            detail: answer.detail,
            attempt: answer.attempt,
            partition: row.partition,
            sent_us: row.sent_us.filter(|_| same_attempt),
            settled_us: self.now,
            processed_us: Some(answer.processed_us),
            version: answer.version,
            consumer: answer.consumer,
            result: answer.result,
        });
    }

    /// Resolves those of `older` that gave up and whose key has a newer version that is PROCESSED by now.
    fn supersede(&mut self, older: Vec<EventId>) {
        for id in older {
            let Some((_, facts)) = self.rows.get(&id) else { continue };
            let newest = self.newest.get(&facts.key);
            if newest.is_some_and(|newest| *newest > (facts.epoch, facts.version)) {
                self.apply(Update::new(id, Trigger::Superseded));
            }
        }
    }

    /// Resolves what gives up now although a newer version of its key was PROCESSED before.
    fn supersede_overtaken(&mut self, conn: &mut Conn) -> QueryResult<()> {
        let gave_up = std::mem::take(&mut self.exhausted_snapshots);
        if gave_up.is_empty() {
            return Ok(());
        }
        let facts: Vec<EventFacts> =
            gave_up.iter().filter_map(|id| Some(self.rows.get(id)?.1.clone())).collect();
        let keys = facts.iter().map(|facts| facts.key.clone()).collect();
        let settled = store::newest_settled(conn, &keys)?;
        for facts in facts {
            let before = settled.get(&facts.key).max(self.newest.get(&facts.key));
            if before.is_some_and(|newest| *newest > (facts.epoch, facts.version)) {
                self.apply(Update::new(facts.id, Trigger::Superseded));
            }
        }
        Ok(())
    }

    /// Notes a change of an event for the listener, if it wants to be told.
    fn notify_listener(
        &mut self,
        facts: &EventFacts,
        change: impl FnOnce() -> Option<EventChange>,
    ) {
        let listens = |listener: &Arc<dyn Listener>| listener.listens_to(&facts.event_type);
        if self.policy.listener.as_ref().is_some_and(listens) {
            let update = |change| EventUpdate { event: facts.clone(), change };
            self.event_updates.extend(change().map(update));
        }
    }

    fn keep(&mut self, row: OpenRow, facts: EventFacts) {
        self.changed.insert(row.id);
        self.rows.insert(row.id, (row, facts));
    }

    fn release(&mut self, row: &OpenRow) {
        if row.status == Status::Sent {
            let released = self.done.released.entry(row.shard).or_default();
            released.0 += 1;
            released.1 += i64::from(row.size);
        }
    }

    fn write(mut self, conn: &mut Conn, more: bool) -> QueryResult<Advanced> {
        let changed: Vec<(Place, OpenRow)> = self
            .changed
            .iter()
            .filter_map(|id| Some((*self.places.get(id)?, self.rows.get(id)?.0.clone())))
            .collect();
        self.settled.sort_unstable_by_key(|row| row.id);
        store::save(conn, &changed)?;
        store::settle(conn, &self.settled, &self.places)?;
        self.asked.save(conn)?;
        store::note(conn, &self.history)?;
        self.write_alerts(conn)?;
        if let (Some(listener), false) = (&self.policy.listener, self.event_updates.is_empty()) {
            listener.on_updates(conn, self.now, &self.event_updates)?;
        }
        let failed = self.done.again + self.done.exhausted;
        if failed > 0 {
            // After the rows, as every other count: whoever takes both takes them in this order.
            counters::add(conn, counters::FAILED, self.now, failed)?;
        }
        if more {
            let newest = self.newest.into_iter();
            self.done.superseding =
                newest.map(|(key, (epoch, version))| (key, epoch, version)).collect();
        }
        self.done.rows = self.rows.into_values().map(|(row, _)| row).collect();
        Ok(self.done)
    }

    /// Raises and closes alerts, and resolves what newer versions made superfluous.
    fn write_alerts(&mut self, conn: &mut Conn) -> QueryResult<()> {
        alerts::raise_all(conn, self.now, std::mem::take(&mut self.alerts))?;
        let reasons: BTreeSet<&'static str> =
            self.alerts_to_close.iter().map(|(_, why)| *why).collect();
        for reason in reasons {
            let ids: Vec<EventId> = self
                .alerts_to_close
                .iter()
                .filter(|(_, why)| *why == reason)
                .map(|(id, _)| *id)
                .collect();
            alerts::close(conn, self.now, &ids, reason)?;
        }
        self.close_version_alerts(conn)
    }

    /// A key whose newest state was applied is no longer ahead of its source.
    fn close_version_alerts(&self, conn: &mut Conn) -> QueryResult<()> {
        if self.newest.is_empty() {
            return Ok(());
        }
        let kind = AlertKind::VersionAboveSource;
        let alerted = alerts::open_keys(conn, kind)?;
        for key in alerted.iter().filter(|key| self.applied.contains(*key)) {
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
