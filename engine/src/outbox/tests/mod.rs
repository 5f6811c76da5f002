//! The outbox against both databases: that the stored states follow [`step`], and that every effect is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventType, NewEvent, Status};
use common::ids::EventId;
use common::on;
use common::retry::Backoff;
use common::schema::{alert, counter, dead_letter, outbox_history, outbox_open, outbox_partition};
use common::telemetry::Spans;
use diesel::prelude::*;
use stockloop_tests::{database::TestDatabase, on_every_database};

use super::advance::{SUPERSEDED, Update, advance};
use super::state::{AckOutcome, Policy, Transition, Trigger, step};
use super::store::{self, SentRow};
use super::*;
use crate::counters;
use crate::kafka::{Ack, AckBatch, Record, Verdict};
use crate::outbox::operate;
use crate::retention::{self, Retention};

mod listener;
mod overdue;
mod pauses;

const TOPIC: &str = "inventory";
const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const POLICY: Policy = Policy {
    backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) },
    listener: None,
};
const SNAPSHOT: EventType = EventType { name: "test.changed", kind: EventKind::Snapshot };
const COMMAND: EventType = EventType { name: "test.placed", kind: EventKind::Command };

/// An outbox with everything that acts on it, on a clock that stands still.
struct OutboxFixture {
    db: Db,
    env: Env,
    clock: ManualClock,
    outbox: Outbox,
    settler: Settler,
    /// The broker's offset of the last send.
    offset: AtomicI64,
    _database: TestDatabase,
}

impl OutboxFixture {
    fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 7);
        let settler = Settler {
            env: env.clone(),
            policy: POLICY,
            topic: TOPIC.to_owned(),
            consumer: "order-service".to_owned(),
        };
        let outbox = Outbox::new(env.clone(), 5, Spans::off(env.clone()));
        Self {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env,
            clock,
            outbox,
            settler,
            offset: AtomicI64::new(0),
            _database: database,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    async fn append(&self, event_type: EventType, key: &str, version: i64) -> EventId {
        let (outbox, key) = (self.outbox.clone(), key.to_owned());
        let event =
            NewEvent { event_type, key, version, payload: "{}".to_owned(), traceparent: None };
        self.run(move |conn| outbox.append(conn, vec![event])).await[0]
    }

    async fn open(&self, id: EventId) -> Option<OpenRow> {
        self.run(move |conn| Ok(store::lock(conn, &[id])?.into_iter().next().map(|(row, _)| row)))
            .await
    }

    /// Puts an event's row into any state, as if its life had led there.
    async fn force(&self, row: OpenRow) {
        self.run(move |conn| store::save(conn, &[row])).await;
    }

    async fn send(&self, id: EventId, attempt: i32, partition: i32) {
        let (sent_us, offset) = (self.env.now(), self.next_offset());
        let sent = SentRow { id, shard: 0, attempt, partition, offset, sent_us };
        let marked = self.run(move |conn| store::mark_sent(conn, &[sent])).await;
        assert!(marked.contains(&id), "the send must be noted");
    }

    fn ack(&self, id: EventId, attempt: i32, outcome: Verdict) -> Ack {
        Ack {
            event_id: id,
            attempt,
            outcome,
            detail: Some("applied".to_owned()),
            error: (outcome == Verdict::Failed).then(|| "no such shelf".to_owned()),
            retryable: true,
            version: Some(1),
            result: None,
            consumer: "order-service".to_owned(),
            processed_at: self.env.now(),
            traceparent: None,
            partition: None,
            offset: None,
        }
    }

    async fn settle(&self, acks: Vec<Ack>) -> Settlement {
        let payload = serde_json::to_vec(&AckBatch { acks }).unwrap();
        self.settle_bytes(payload).await
    }

    async fn settle_bytes(&self, payload: Vec<u8>) -> Settlement {
        let record = Record {
            topic: "acks".to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            headers: Vec::new(),
            payload: Some(payload),
        };
        self.settler.settle(&self.db, vec![record], false).await.unwrap()
    }

    async fn alerts(&self) -> Vec<(Option<EventId>, Option<i32>, Option<String>)> {
        self.run(|conn| {
            on!(conn, c => alert::table
                .select((alert::event_id, alert::attempt, alert::closed_because))
                .order(alert::seq)
                .load(c))
        })
        .await
    }

    async fn history(&self, id: EventId) -> Vec<(i32, String)> {
        self.run(move |conn| {
            on!(conn, c => outbox_history::table
                .filter(outbox_history::event_id.eq(id))
                .select((outbox_history::attempt, outbox_history::what))
                .order(outbox_history::seq)
                .load(c))
        })
        .await
    }

    fn next_offset(&self) -> Option<i64> {
        Some(self.offset.fetch_add(1, Ordering::Relaxed))
    }

    async fn exhaust(&self, id: EventId, partition: i32) {
        self.send(id, 1, partition).await;
        let refusal = Ack { retryable: false, ..self.ack(id, 1, Verdict::Failed) };
        assert_eq!(self.settle(vec![refusal]).await.advanced.exhausted, 1);
    }

    fn monitor(&self) -> OverdueMonitor {
        OverdueMonitor {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: POLICY,
            topic: TOPIC.to_owned(),
            consumer: "order-service".to_owned(),
            ack_timeout: Duration::from_secs(30),
            ack_grace: Duration::from_secs(5),
            probes: Backoff { base: Duration::from_secs(30), max: Duration::from_secs(300) },
        }
    }
}

on_every_database!(OutboxFixture::new =>
    the_database_follows_the_state_table,
    a_success_of_any_attempt_ends_it,
    strangers_and_noise_change_nothing,
    an_exhaustion_has_one_alert_until_it_arrives,
    a_newer_version_resolves_an_older_failure,
    a_newer_version_resolves_more_than_a_step_takes,
    a_race_of_giving_up_and_arriving_leaves_no_alert,
    a_command_is_never_superseded,
    a_late_loser_of_a_lease_writes_nothing,
    leases_are_shared_fairly_and_taken_over,
    only_what_is_due_and_pending_is_found,
    old_settled_events_go_and_open_ones_stay,
    one_bad_ack_batch_does_not_stop_the_others,
    one_bad_ack_does_not_stop_those_beside_it,
    a_copy_ahead_of_its_source_is_told,
    a_clock_that_ran_ahead_makes_no_copy_ahead,
    answers_and_failures_are_counted,
);

/// Each state, each trigger: what is stored afterwards is what `step` says.
async fn the_database_follows_the_state_table(fixture: OutboxFixture) {
    let acked = |attempt, outcome| Trigger::Acked { attempt, outcome };
    let triggers = [
        Trigger::Confirmed { attempt: 1, partition: 3, offset: Some(7) },
        Trigger::Confirmed { attempt: 2, partition: 3, offset: Some(7) },
        Trigger::Confirmed { attempt: 5, partition: 3, offset: Some(7) },
        acked(1, AckOutcome::Success),
        acked(1, AckOutcome::Rejected),
        acked(1, AckOutcome::Failed { retryable: true }),
        acked(1, AckOutcome::Failed { retryable: false }),
        acked(2, AckOutcome::Failed { retryable: true }),
        acked(5, AckOutcome::Failed { retryable: true }),
        Trigger::Probed { attempt: 2, partition: 3, offset: Some(9) },
        Trigger::Unproducible,
        Trigger::Overdue,
        Trigger::Superseded,
        Trigger::Retried { more: 3 },
        Trigger::Resolved,
    ];
    let (pending, sent, exhausted) = (Status::Pending, Status::Sent, Status::Exhausted);
    let states = [
        (pending, 0),
        (pending, 1),
        (pending, 4),
        (sent, 1),
        (sent, 5),
        (exhausted, 1),
        (exhausted, 5),
    ];
    for event_type in [SNAPSHOT, COMMAND] {
        for (status, attempt) in states {
            for trigger in triggers {
                let id = fixture.append(event_type, "A", 1).await;
                let fresh = fixture.open(id).await.unwrap();
                let sent = (status == Status::Sent).then_some((Some(0), Some(START)));
                let (partition, sent_us) = sent.unwrap_or_default();
                let before = OpenRow { status, attempt, partition, sent_us, ..fresh };
                fixture.force(before.clone()).await;
                let expected = step(&before, event_type.kind, trigger, START, &POLICY, 0.5);
                let mut update = Update::new(id, trigger);
                if let Trigger::Acked { attempt, outcome } = trigger {
                    let verdict = match outcome {
                        AckOutcome::Success => Verdict::Success,
                        AckOutcome::Rejected => Verdict::Rejected,
                        AckOutcome::Failed { .. } => Verdict::Failed,
                    };
                    let retryable = outcome == AckOutcome::Failed { retryable: true };
                    let ack = Ack { retryable, ..fixture.ack(id, attempt, verdict) };
                    update = Update::answered(ack);
                    assert_eq!(update.trigger, trigger);
                }
                match trigger {
                    Trigger::Confirmed { attempt, partition, offset } => {
                        let shard = before.shard;
                        let sent =
                            SentRow { id, shard, attempt, partition, offset, sent_us: START };
                        fixture.run(move |conn| store::mark_sent(conn, &[sent])).await;
                    }
                    _ => {
                        let env = fixture.env.clone();
                        fixture.run(move |conn| advance(conn, &env, &POLICY, vec![update])).await;
                    }
                }
                let after = fixture.open(id).await;
                let context = format!("{event_type:?} {status:?}/{attempt} on {trigger:?}");
                match expected {
                    Transition::Stay => assert_eq!(after, Some(before), "{context}"),
                    Transition::Settle => assert_eq!(after, None, "{context}"),
                    Transition::Change(row) | Transition::Exhaust(row) => {
                        let after = after.expect(&context);
                        // The backoff's jitter is chance; all else is not.
                        assert_eq!(OpenRow { due_us: row.due_us, ..after }, row, "{context}");
                    }
                }
            }
        }
    }
}

async fn a_success_of_any_attempt_ends_it(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 3).await;
    fixture.settle(vec![fixture.ack(id, 1, Verdict::Failed)]).await;
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Pending);
    fixture.send(id, 2, 3).await;
    // The first attempt's answer comes late, and twice: it arrived, and that is all that counts.
    let late = fixture.ack(id, 1, Verdict::Success);
    let settlement = fixture.settle(vec![late.clone(), late.clone()]).await;
    assert_eq!(settlement.advanced.settled.len(), 1);
    assert_eq!(fixture.open(id).await, None);
    let again = fixture.settle(vec![late]).await;
    assert_eq!((again.repeated, again.unknown), (1, 0));
    assert_eq!(fixture.history(id).await, [(1, "FAILED".to_owned())]);
}

async fn strangers_and_noise_change_nothing(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let unknown = fixture.ack(fixture.env.event_id(), 1, Verdict::Success);
    let foreign =
        Ack { consumer: "nosy-service".to_owned(), ..fixture.ack(id, 1, Verdict::Success) };
    let settlement = fixture.settle(vec![unknown, foreign]).await;
    assert_eq!((settlement.unknown, settlement.foreign), (1, 1));
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Sent);
    assert_eq!(fixture.settle_bytes(b"not json".to_vec()).await.unreadable, 1);
    let buried: i64 =
        fixture.run(|conn| on!(conn, c => dead_letter::table.count().get_result(c))).await;
    assert_eq!(buried, 1);
}

async fn an_exhaustion_has_one_alert_until_it_arrives(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    for attempt in 1..=5 {
        fixture.send(id, attempt, 0).await;
        let failed = fixture.ack(id, attempt, Verdict::Failed);
        fixture.settle(vec![failed.clone(), failed]).await;
    }
    assert_eq!(fixture.open(id).await.unwrap().status, Status::Exhausted);
    assert_eq!(fixture.alerts().await, [(Some(id), Some(5), None)]);
    let outbox = fixture.outbox.clone();
    let retried = fixture
        .db
        .write(move |conn| {
            operate::retry(conn, &outbox, id, 2, "night shift", Some("shelf is back"))
        })
        .await
        .unwrap();
    assert_eq!((retried.status, retried.attempt, retried.attempt_limit), (Status::Pending, 5, 7));
    fixture.send(id, 6, 0).await;
    fixture.settle(vec![fixture.ack(id, 6, Verdict::Success)]).await;
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].2.is_some(), "the alert is closed");
    let outbox = fixture.outbox.clone();
    let refused = fixture
        .db
        .write(move |conn| operate::resolve(conn, &outbox, id, "night shift", "done"))
        .await;
    let processed = Status::Processed;
    assert!(
        matches!(refused, Err(OperateError::NotExhausted { status, .. }) if status == processed)
    );
}

async fn a_newer_version_resolves_an_older_failure(fixture: OutboxFixture) {
    // The older gives up first, then the newer arrives.
    let older = fixture.append(SNAPSHOT, "A", 1).await;
    let newer = fixture.append(SNAPSHOT, "A", 2).await;
    fixture.exhaust(older, 0).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    let row = fixture.open(older).await.unwrap();
    assert_eq!((row.status, row.resolved_us.is_some()), (Status::Exhausted, true));
    // The newer is there before the older gives up.
    let older = fixture.append(SNAPSHOT, "B", 1).await;
    let newer = fixture.append(SNAPSHOT, "B", 2).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    fixture.exhaust(older, 0).await;
    let row = fixture.open(older).await.unwrap();
    assert_eq!((row.status, row.resolved_us.is_some()), (Status::Exhausted, true));
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 2, "each exhaustion has its alert");
    assert!(alerts.iter().all(|(_, _, closed)| closed.is_some()));
}

async fn a_newer_version_resolves_more_than_a_step_takes(fixture: OutboxFixture) {
    let count = i64::try_from(SUPERSEDED).unwrap() + 500;
    let outbox = fixture.outbox.clone();
    let event = |version| NewEvent {
        event_type: SNAPSHOT,
        key: "A".to_owned(),
        version,
        payload: "{}".to_owned(),
        traceparent: None,
    };
    let events = (1..=count).map(event).collect();
    let ids = fixture.run(move |conn| outbox.append(conn, events)).await;
    let now = fixture.env.now();
    let sent: Vec<SentRow> = (0..)
        .zip(&ids)
        .map(|(offset, id)| SentRow {
            id: *id,
            shard: 0,
            attempt: 1,
            partition: 0,
            offset: Some(offset),
            sent_us: now,
        })
        .collect();
    fixture.run(move |conn| store::mark_sent(conn, &sent)).await;
    let refused = |id: &EventId| Ack { retryable: false, ..fixture.ack(*id, 1, Verdict::Failed) };
    for ids in ids.chunks(500) {
        fixture.settle(ids.iter().map(refused).collect()).await;
    }
    let newer = fixture.append(SNAPSHOT, "A", count + 1).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    assert!(fixture.alerts().await.iter().all(|alert| alert.2.is_some()), "every alert is closed");
    let resolved: i64 = fixture
        .run(|conn| {
            let resolved = outbox_open::table.filter(outbox_open::resolved_us.is_not_null());
            on!(conn, c => resolved.count().get_result(c))
        })
        .await;
    assert_eq!(resolved, count);
}

async fn a_race_of_giving_up_and_arriving_leaves_no_alert(fixture: OutboxFixture) {
    let older = fixture.append(SNAPSHOT, "A", 1).await;
    let newer = fixture.append(SNAPSHOT, "A", 2).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    // As if the transaction that gave up had not seen the one that settled.
    let row = fixture.open(older).await.unwrap();
    fixture.force(OpenRow { status: Status::Exhausted, attempt: 1, ..row }).await;
    fixture
        .run(move |conn| {
            let facts = store::facts(conn, older)?.unwrap();
            crate::alerts::raise(conn, START, crate::alerts::NewAlert::exhausted(&facts, 1, "x"))
        })
        .await;
    fixture.monitor().resolve_overtaken().await.unwrap();
    assert!(fixture.open(older).await.unwrap().resolved_us.is_some());
    assert!(fixture.alerts().await[0].2.is_some());
}

async fn a_command_is_never_superseded(fixture: OutboxFixture) {
    let older = fixture.append(COMMAND, "A", 0).await;
    let newer = fixture.append(COMMAND, "A", 0).await;
    fixture.exhaust(older, 0).await;
    fixture.send(newer, 1, 0).await;
    fixture.settle(vec![fixture.ack(newer, 1, Verdict::Success)]).await;
    assert!(fixture.open(older).await.unwrap().resolved_us.is_none());
    assert_eq!(fixture.alerts().await, [(Some(older), Some(1), None)]);
}

async fn a_late_loser_of_a_lease_writes_nothing(fixture: OutboxFixture) {
    let lease = Duration::from_secs(60);
    let held = renew(&fixture.db, "first", lease).await.unwrap();
    assert_eq!(held.tokens.len(), usize::from(SHARDS.unsigned_abs()));
    let mine = held.clone();
    let shards = fixture.run(move |conn| store::fence(conn, &mine)).await;
    assert_eq!(shards.len(), held.tokens.len());
    release(&fixture.db, "first").await.unwrap();
    renew(&fixture.db, "second", lease).await.unwrap();
    let lost = fixture.run(move |conn| store::fence(conn, &held)).await;
    assert!(lost.is_empty(), "another holds the shards by now");
}

async fn leases_are_shared_fairly_and_taken_over(fixture: OutboxFixture) {
    let lease = Duration::from_secs(60);
    let all = renew(&fixture.db, "a", lease).await.unwrap();
    assert!(renew(&fixture.db, "b", lease).await.unwrap().tokens.is_empty(), "nothing is free yet");
    let a = renew(&fixture.db, "a", lease).await.unwrap();
    let b = renew(&fixture.db, "b", lease).await.unwrap();
    assert_eq!((a.tokens.len(), b.tokens.len()), (32, 32));
    for (shard, token) in &b.tokens {
        assert!(token > &all.tokens[shard], "each change of hands raises the token");
    }
    release(&fixture.db, "b").await.unwrap();
    assert_eq!(renew(&fixture.db, "a", lease).await.unwrap().tokens.len(), 64);
}

async fn only_what_is_due_and_pending_is_found(fixture: OutboxFixture) {
    let due = fixture.append(SNAPSHOT, "A", 1).await;
    let sent = fixture.append(SNAPSHOT, "A", 2).await;
    let waiting = fixture.append(SNAPSHOT, "A", 3).await;
    fixture.send(sent, 1, 0).await;
    let row = fixture.open(waiting).await.unwrap();
    let later = START.after(Duration::from_secs(9));
    fixture.force(OpenRow { attempt: 1, due_us: later, ..row.clone() }).await;
    // Never sent: due at once, whatever its writer's clock said.
    let fresh = fixture.append(SNAPSHOT, "A", 4).await;
    let ahead = fixture.open(fresh).await.unwrap();
    fixture.force(OpenRow { due_us: later, ..ahead }).await;
    let now = fixture.env.now();
    let shards = std::collections::BTreeSet::from([row.shard]);
    let found = fixture.run(move |conn| store::due(conn, now, &shards, &[], 10)).await;
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [due, fresh]);
    let others = std::collections::BTreeSet::from([(row.shard + 1) % SHARDS]);
    assert!(fixture.run(move |conn| store::due(conn, now, &others, &[], 10)).await.is_empty());
}

async fn old_settled_events_go_and_open_ones_stay(fixture: OutboxFixture) {
    let settled = fixture.append(SNAPSHOT, "A", 1).await;
    let open = fixture.append(SNAPSHOT, "B", 1).await;
    fixture.send(settled, 1, 0).await;
    fixture.settle(vec![fixture.ack(settled, 1, Verdict::Success)]).await;
    fixture.clock.advance(Duration::from_secs(3_600));
    let limits =
        Retention { outbox: START.after(Duration::from_secs(1_800)), ..Retention::default() };
    assert_eq!(retention::run_once(&fixture.db, limits).await.unwrap(), 1);
    assert_eq!(retention::run_once(&fixture.db, limits).await.unwrap(), 0);
    assert!(fixture.run(move |conn| store::facts(conn, settled)).await.is_none());
    assert!(fixture.open(open).await.is_some());
}

async fn one_bad_ack_batch_does_not_stop_the_others(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let record = |payload: &[u8], offset| Record {
        topic: "acks".to_owned(),
        partition: 0,
        offset,
        key: None,
        headers: Vec::new(),
        payload: Some(payload.to_vec()),
    };
    let good = serde_json::to_vec(&AckBatch { acks: vec![fixture.ack(id, 1, Verdict::Success)] });
    let records = vec![record(b"{", 1), record(&good.unwrap(), 2), record(b"[]", 3)];
    let settlement = fixture.settler.settle(&fixture.db, records, false).await.unwrap();
    assert_eq!((settlement.unreadable, settlement.advanced.settled.len()), (2, 1));
    let released = BTreeMap::from([(0, (1, 2))]);
    assert_eq!(
        settlement.advanced.released, released,
        "one event of two bytes is not in flight any more"
    );
}

async fn one_bad_ack_does_not_stop_those_beside_it(fixture: OutboxFixture) {
    let mut acks = Vec::new();
    for version in 1..=5 {
        let id = fixture.append(SNAPSHOT, &format!("K{version}"), version).await;
        fixture.send(id, 1, 0).await;
        acks.push(fixture.ack(id, 1, Verdict::Success));
    }
    // Neither database stores a text with NUL, and nobody checks what a consumer calls its details.
    acks[2].detail = Some("a\0b".to_owned());
    let bad = acks[2].event_id;
    let record = Record {
        topic: "acks".to_owned(),
        partition: 0,
        offset: 1,
        key: None,
        headers: Vec::new(),
        payload: Some(serde_json::to_vec(&AckBatch { acks }).unwrap()),
    };
    let settlement = fixture.settler.settle(&fixture.db, vec![record], false).await.unwrap();
    if fixture.open(bad).await.is_none() {
        // This database takes it.
        assert_eq!((settlement.unreadable, settlement.advanced.settled.len()), (0, 5));
        return;
    }
    assert_eq!((settlement.unreadable, settlement.advanced.settled.len()), (1, 4));
    let letters: Vec<(Vec<u8>, String)> = fixture
        .run(|conn| {
            on!(conn, c => dead_letter::table
                .select((dead_letter::bytes, dead_letter::error))
                .load(c))
        })
        .await;
    let kept: AckBatch = serde_json::from_slice(&letters[0].0).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(kept.acks.iter().map(|ack| ack.event_id).collect::<Vec<_>>(), [bad]);
}

async fn a_copy_ahead_of_its_source_is_told(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 3).await;
    fixture.send(id, 1, 0).await;
    let ahead = Ack {
        detail: Some("superseded".to_owned()),
        version: Some(9),
        ..fixture.ack(id, 1, Verdict::Success)
    };
    fixture.settle(vec![ahead.clone()]).await;
    fixture.settle(vec![ahead]).await;
    let alerts: Vec<String> =
        fixture.run(|conn| on!(conn, c => alert::table.select(alert::kind).load(c))).await;
    assert_eq!(alerts, ["version_above_source"]);
    let open: i64 =
        fixture.run(|conn| on!(conn, c => outbox_open::table.count().get_result(c))).await;
    assert_eq!(open, 0);
}

/// Ids hold the time of the instance that made them, so the newest version is not always the one with the greatest id.
async fn a_clock_that_ran_ahead_makes_no_copy_ahead(fixture: OutboxFixture) {
    let clock = ManualClock::at(START.after(Duration::from_millis(3)));
    let env = Env::seeded(Arc::new(clock), 8);
    let other = Outbox::new(env.clone(), 5, Spans::off(env));
    let event = NewEvent {
        event_type: SNAPSHOT,
        key: "A".to_owned(),
        version: 1,
        payload: "{}".to_owned(),
        traceparent: None,
    };
    let first = fixture.run(move |conn| other.append(conn, vec![event])).await[0];
    let second = fixture.append(SNAPSHOT, "A", 2).await;
    assert!(second < first);
    fixture.send(first, 1, 0).await;
    let superseded = Ack {
        detail: Some("superseded".to_owned()),
        version: Some(2),
        ..fixture.ack(first, 1, Verdict::Success)
    };
    fixture.settle(vec![superseded]).await;
    assert_eq!(fixture.alerts().await.len(), 0);
}

async fn answers_and_failures_are_counted(fixture: OutboxFixture) {
    let (a, b) = (fixture.append(SNAPSHOT, "A", 1).await, fixture.append(SNAPSHOT, "B", 1).await);
    fixture.exhaust(a, 0).await;
    fixture.send(b, 1, 0).await;
    let failed = fixture.ack(b, 1, Verdict::Failed);
    // The same answer once more changes nothing, so it counts for nothing.
    fixture.settle(vec![failed.clone(), failed]).await;
    fixture.send(b, 2, 0).await;
    fixture.settle(vec![fixture.ack(b, 2, Verdict::Success)]).await;
    assert_eq!(
        (fixture.counted(counters::FAILED).await, fixture.counted(counters::PROCESSED).await),
        (2, 1)
    );
    let outbox = fixture.outbox.clone();
    let retry = move |conn: &mut Conn| operate::retry(conn, &outbox, a, 1, "night shift", None);
    fixture.db.write(retry).await.unwrap();
    assert_eq!(fixture.counted(counters::FAILED).await, 2, "an operator's retry is no failure");
}

impl OutboxFixture {
    async fn counted(&self, name: &'static str) -> i64 {
        let slots: Vec<i64> = self
            .run(move |conn| {
                on!(conn, c => counter::table
                    .filter(counter::name.eq(name))
                    .select(counter::value)
                    .load(c))
            })
            .await;
        slots.into_iter().sum()
    }
}
