//! The inbox on both databases: one effect per event, the same answer each time, and only the bad event fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod hostile;
mod pipeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::config::SignatureRequirement;
use common::db::{Backend, Conn, Db, DbError, ENGINE_MIGRATIONS, Fault};
use common::env::Env;
use common::event::Event;
use common::ids::EventId;
use common::on;
use common::schema::{alert, counter, dead_letter, inbox, read_position};
use common::telemetry::Spans;
use diesel::prelude::*;
use serde_json::json;
use stockloop_tests::{database::TestDatabase, on_every_database};

use super::*;
use crate::alerts::{AlertKind, Condition, tests::alerts_to_nobody};
use crate::batch::BatchError;
use crate::dead_letters::DeadLetterState;
use crate::inbox::quarantine::QuarantineRow;
use crate::kafka::{
    Ack, Envelope, Record, Signing, Verdict, received_for_tests, signing_for_tests,
};
use crate::refusals::Refusals;
use crate::restored::ReadPositions;

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// Counts each event's effect by key; keys say what goes wrong.
#[derive(Clone, Default)]
struct Counting {
    /// Whether it fails whatever it is given.
    broken: Arc<AtomicBool>,
}

impl Handler for Counting {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == "test.command"
    }

    fn apply(
        &self,
        conn: &mut Conn,
        _now: Timestamp,
        events: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        assert!(!self.broken.load(Ordering::Relaxed), "a flaw that meets everything");
        let mut answers = Vec::new();
        for event in events {
            answers.push(match event.key.as_str() {
                "no" => HandlerOutcome::Rejected { result: json!({"reason": "out of stock"}) },
                "fails" => {
                    HandlerOutcome::Failed { error: "no such shelf".to_owned(), retryable: true }
                }
                "panics" => panic!("a flaw of the handler"),
                key => {
                    effect(conn, key)?;
                    HandlerOutcome::Success {
                        detail: Detail::Applied,
                        version: Some(7),
                        result: None,
                    }
                }
            });
        }
        Ok(answers)
    }
}

fn effect(conn: &mut Conn, key: &str) -> QueryResult<()> {
    let row = (counter::name.eq(key), counter::slot.eq(0), counter::value.eq(1_i64));
    // "taken" is a row that the data forbids: it is there already.
    if key == "taken" {
        on!(conn, c => diesel::insert_into(counter::table).values(row).execute(c))?;
        return Ok(());
    }
    on!(conn, c => diesel::insert_into(counter::table)
        .values(row)
        .on_conflict((counter::name, counter::slot))
        .do_update()
        .set(counter::value.eq(counter::value + 1))
        .execute(c))?;
    Ok(())
}

struct InboxFixture {
    db: Db,
    env: Env,
    inbox: Inbox,
    handler: Counting,
    _database: TestDatabase,
}

impl InboxFixture {
    fn new(database: TestDatabase) -> Self {
        let env = Env::seeded(Arc::new(ManualClock::at(START)), 3);
        let db = database.open(&[ENGINE_MIGRATIONS]);
        let handler = Counting::default();
        let inbox = Inbox {
            db: db.clone(),
            env: env.clone(),
            handler: Arc::new(handler.clone()),
            consumer: "order-service".to_owned(),
            spans: Spans::off(env.clone()),
            control: Control::default(),
            positions: ReadPositions::new("order-service", "events"),
            signing: Signing::default(),
        };
        Self { db, env, inbox, handler, _database: database }
    }

    fn event(&self, event_type: &str, key: &str) -> Event {
        Event {
            id: self.env.event_id(),
            event_type: event_type.to_owned(),
            key: key.to_owned(),
            epoch: 1,
            attempt: 1,
            time: START,
            traceparent: None,
            data: b"{}".to_vec(),
        }
    }

    async fn deliver(&self, events: &[Event]) -> Vec<Ack> {
        let records: Vec<Record> = events.iter().map(record).collect();
        let applied = self.inbox.apply(records, false).await.unwrap();
        applied.acks.into_iter().map(|(_, ack)| ack).collect()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    async fn effects(&self, key: &'static str) -> i64 {
        let row = counter::table.find((key, 0_i16)).select(counter::value);
        let value: Option<i64> =
            self.run(move |conn| on!(conn, c => row.first(c).optional())).await;
        value.unwrap_or(0)
    }

    async fn kept(&self) -> i64 {
        self.run(|conn| on!(conn, c => inbox::table.count().get_result(c))).await
    }

    fn condition(&self, kind: AlertKind, patience: Duration) -> Condition {
        let (db, env) = (self.db.clone(), self.env.clone());
        Condition::new(db, env, alerts_to_nobody(), kind, patience)
    }

    async fn dead_letters(&self) -> i64 {
        self.run(|conn| on!(conn, c => dead_letter::table.count().get_result(c))).await
    }
}

fn record(event: &Event) -> Record {
    signed(event, &Signing::default())
}

fn signed(event: &Event, signing: &Signing) -> Record {
    let envelope = Envelope { source: "/product-service".to_owned(), event: event.clone() };
    let message = envelope.into_message("inventory", 2);
    Record { partition: 2, ..received_for_tests(&message, signing.sign(&message)) }
}

on_every_database!(InboxFixture::new =>
    a_duplicate_has_no_second_effect_and_gets_the_same_answer,
    a_command_may_be_rejected_and_stays_so,
    only_a_command_may_be_rejected,
    a_failure_leaves_no_row_so_that_the_next_attempt_is_fresh,
    only_the_bad_event_fails,
    a_flawed_handler_stops_nobody,
    what_fails_for_everything_is_blamed_on_nothing,
    a_table_that_is_away_is_blamed_on_nothing,
    one_event_that_a_trigger_can_not_bear_stops_nobody,
    many_bad_events_hide_no_good_one,
    answers_that_can_not_be_kept_are_blamed_on_nothing,
    one_bad_witness_is_not_believed,
    data_alone_is_suspected_at_last,
    quarantine_fails_a_key_until_it_is_released,
    the_unreadable_is_set_aside_and_answered_where_it_can_be,
    what_is_not_believed_is_set_aside_and_not_answered,
    a_flood_that_is_not_believed_fills_nothing,
    what_need_not_be_signed_is_applied,
    a_topic_of_which_nothing_is_believed_is_told,
);

async fn a_duplicate_has_no_second_effect_and_gets_the_same_answer(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "A");
    let again = Event { attempt: 2, ..event.clone() };
    let first = fixture.deliver(&[event.clone(), again.clone()]).await;
    let details = |acks: &[Ack]| acks.iter().map(|a| a.detail.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(details(&first), ["applied", "duplicate"]);
    assert_eq!(first.iter().map(|ack| ack.attempt).collect::<Vec<_>>(), [1, 2]);
    let later = fixture.deliver(&[again]).await;
    assert_eq!((details(&later), later[0].version), (vec!["duplicate".to_owned()], Some(7)));
    assert_eq!((fixture.effects("A").await, fixture.kept().await), (1, 1));
}

async fn a_command_may_be_rejected_and_stays_so(fixture: InboxFixture) {
    let command = fixture.event("test.command", "no");
    for _ in 0..2 {
        let acks = fixture.deliver(std::slice::from_ref(&command)).await;
        assert_eq!(acks[0].outcome, Verdict::Rejected);
        assert_eq!(acks[0].result.as_ref().unwrap().get(), r#"{"reason":"out of stock"}"#);
    }
    assert_eq!(fixture.kept().await, 1);
}

async fn only_a_command_may_be_rejected(fixture: InboxFixture) {
    let events = [fixture.event("test.changed", "no"), fixture.event("test.changed", "A")];
    let acks = fixture.deliver(&events).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, false));
    assert_eq!((acks[1].outcome, fixture.kept().await), (Verdict::Success, 1));
}

async fn a_failure_leaves_no_row_so_that_the_next_attempt_is_fresh(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "fails");
    let acks = fixture.deliver(std::slice::from_ref(&event)).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, true));
    assert_eq!(acks[0].error.as_deref(), Some("no such shelf"));
    assert_eq!(fixture.kept().await, 0);
    let mended = Event { key: "A".to_owned(), attempt: 2, ..event };
    assert_eq!(fixture.deliver(&[mended]).await[0].outcome, Verdict::Success);
    assert_eq!(fixture.effects("A").await, 1);
}

async fn only_the_bad_event_fails(fixture: InboxFixture) {
    fixture.run(|conn| effect(conn, "taken")).await;
    let keys = ["A", "B", "taken", "A", "C", "taken", "B"];
    let events: Vec<Event> = keys.iter().map(|key| fixture.event("test.changed", key)).collect();
    let acks = fixture.deliver(&events).await;
    let failed: Vec<EventId> = acks
        .iter()
        .filter(|ack| ack.outcome == Verdict::Failed && !ack.retryable)
        .map(|ack| ack.event_id)
        .collect();
    assert_eq!(failed, [events[2].id, events[5].id]);
    assert_eq!(
        (fixture.effects("A").await, fixture.effects("B").await, fixture.effects("C").await),
        (2, 2, 1)
    );
    assert_eq!(fixture.kept().await, 5);
}

async fn a_flawed_handler_stops_nobody(fixture: InboxFixture) {
    let events = [fixture.event("test.changed", "panics"), fixture.event("test.changed", "A")];
    let acks = fixture.deliver(&events).await;
    assert_eq!((acks[0].outcome, acks[1].outcome), (Verdict::Failed, Verdict::Success));
    assert_eq!(fixture.effects("A").await, 1);
}

/// An event that passed before is the proof: what it can't pass now, no event is to blame for.
async fn what_fails_for_everything_is_blamed_on_nothing(fixture: InboxFixture) {
    fixture.deliver(&[fixture.event("test.changed", "A")]).await;
    fixture.handler.broken.store(true, Ordering::Relaxed);
    for repeats in [false, true] {
        for keys in [&["B", "C"][..], &["B"]] {
            let error = fixture.refused(keys, repeats).await;
            assert_eq!(error.fault(), Fault::World, "{error}");
        }
    }
    fixture.handler.broken.store(false, Ordering::Relaxed);
    let events = [fixture.event("test.changed", "panics"), fixture.event("test.changed", "panics")];
    let acks = fixture.deliver(&events).await;
    let outcomes: Vec<Verdict> = acks.iter().map(|ack| ack.outcome).collect();
    assert_eq!(outcomes, [Verdict::Failed; 2], "the other event passes, so these two are bad");
    assert_eq!((fixture.effects("A").await, fixture.kept().await), (1, 1), "and leaves no trace");
}

async fn a_table_that_is_away_is_blamed_on_nothing(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "A");
    fixture.run(|conn| conn.batch_execute("ALTER TABLE counter RENAME TO away")).await;
    for repeats in [false, true] {
        let error = fixture.refused(&["A", "B"], repeats).await;
        let fault = if repeats { Fault::World } else { Fault::Setup };
        assert_eq!(error.fault(), fault, "{error}");
        assert!(error.to_string().contains("counter"), "{error}");
    }
    fixture.run(|conn| conn.batch_execute("ALTER TABLE away RENAME TO counter")).await;
    let acks = fixture.deliver(&[event]).await;
    assert_eq!((acks[0].outcome, acks[0].attempt), (Verdict::Success, 1));
}

/// What else is the world's fault is that of one event where all others pass: it must not hold them up for ever.
async fn one_event_that_a_trigger_can_not_bear_stops_nobody(fixture: InboxFixture) {
    fixture.forbid("bad").await;
    let error = fixture.refused(&["bad"], true).await;
    assert_eq!(error.fault(), Fault::World, "alone, it proves nothing: {error}");
    let events = ["bad", "A", "B"].map(|key| fixture.event("test.changed", key));
    let records: Vec<Record> = events.iter().map(record).collect();
    let error = fixture.inbox.apply(records.clone(), false).await.err().expect("it is tried again");
    assert_eq!(error.fault(), Fault::Setup, "{error}");
    let applied = fixture.inbox.apply(records, true).await.unwrap();
    let outcomes: Vec<_> =
        applied.acks.iter().map(|(_, ack)| (ack.outcome, ack.retryable)).collect();
    let passed = (Verdict::Success, false);
    assert_eq!(outcomes, [(Verdict::Failed, true), passed, passed]);
    // From now on those that passed are the proof against it, also where it comes alone.
    let again = record(&events[0]);
    let applied = fixture.inbox.apply(vec![again], true).await.unwrap();
    assert_eq!(applied.acks[0].1.outcome, Verdict::Failed);
}

async fn many_bad_events_hide_no_good_one(fixture: InboxFixture) {
    fixture.forbid("bad").await;
    let bad = (0..12).map(|_| fixture.event("test.changed", "bad"));
    let good = fixture.event("test.changed", "A");
    let records: Vec<Record> = bad.chain([good]).map(|event| record(&event)).collect();
    let applied = fixture.inbox.apply(records, true).await.unwrap();
    let passed = applied.acks.iter().filter(|(_, ack)| ack.outcome == Verdict::Success).count();
    assert_eq!((applied.acks.len(), passed), (13, 1));
}

/// The handler alone is no witness: what is written beside it has to be written as well.
async fn answers_that_can_not_be_kept_are_blamed_on_nothing(fixture: InboxFixture) {
    fixture.deliver(&[fixture.event("test.changed", "A")]).await;
    let sql = match fixture.db.backend() {
        Backend::Postgres => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no such table: nowhere' USING ERRCODE = '42P01'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
        Backend::Sqlite => {
            "CREATE TRIGGER full_inbox BEFORE INSERT ON inbox \
             BEGIN SELECT RAISE(ABORT, 'no such table: nowhere'); END"
        }
    };
    fixture.run(|conn| conn.batch_execute(sql)).await;
    for repeats in [false, true] {
        let error = fixture.refused(&["B", "C"], repeats).await;
        let fault = if repeats { Fault::World } else { Fault::Setup };
        assert_eq!(error.fault(), fault, "{error}");
    }
}

/// One of those that passed before may fail now for reasons of its own.
async fn one_bad_witness_is_not_believed(fixture: InboxFixture) {
    let events = ["A", "B"].map(|key| fixture.event("test.changed", key));
    fixture.deliver(&events).await;
    fixture.forbid("B").await;
    fixture.run(|conn| effect(conn, "taken")).await;
    let acks = fixture.deliver(&[fixture.event("test.changed", "taken")]).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, false));
}

/// With nothing that speaks for or against it, data that can't be stored is suspected at last, and may be tried again.
async fn data_alone_is_suspected_at_last(fixture: InboxFixture) {
    fixture.run(|conn| effect(conn, "taken")).await;
    let error = fixture.refused(&["taken"], false).await;
    assert_eq!(error.fault(), Fault::World, "{error}");
    let taken = record(&fixture.event("test.changed", "taken"));
    let applied = fixture.inbox.apply(vec![taken], true).await.unwrap();
    let ack = &applied.acks[0].1;
    assert_eq!((ack.outcome, ack.retryable), (Verdict::Failed, true));
}

impl InboxFixture {
    async fn refused(&self, keys: &[&str], repeats: bool) -> BatchError {
        let events = keys.iter().map(|key| record(&self.event("test.changed", key)));
        let outcome = self.inbox.apply(events.collect::<Vec<_>>(), repeats).await;
        outcome.err().expect("nothing is answered")
    }

    /// A trigger meets a table that is not there, for this key alone.
    async fn forbid(&self, key: &'static str) {
        self.run(move |conn| {
            let sql = match conn {
                Conn::Pg(_) => format!(
                    "CREATE OR REPLACE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     IF NEW.name = '{key}' THEN PERFORM 1 FROM nowhere; END IF; RETURN NEW; END $$; \
                     CREATE TRIGGER forbid BEFORE INSERT OR UPDATE ON counter \
                     FOR EACH ROW EXECUTE FUNCTION forbid()"
                ),
                Conn::Sqlite(_) => format!(
                    "CREATE TRIGGER forbid_insert BEFORE INSERT ON counter WHEN NEW.name = '{key}' \
                     BEGIN SELECT RAISE(ABORT, 'no such table: nowhere'); END"
                ),
            };
            conn.batch_execute(&sql)
        })
        .await;
    }
}

async fn quarantine_fails_a_key_until_it_is_released(fixture: InboxFixture) {
    let row = QuarantineRow {
        key: "A".to_owned(),
        reason: "counting the shelf".to_owned(),
        since_us: START,
        by_whom: "operator".to_owned(),
    };
    fixture.run(move |conn| quarantine::put(conn, &row)).await;
    let events = [fixture.event("test.changed", "A"), fixture.event("test.changed", "B")];
    let acks = fixture.deliver(&events).await;
    assert_eq!((acks[0].outcome, acks[0].retryable), (Verdict::Failed, true));
    assert!(acks[0].error.as_ref().unwrap().contains("counting the shelf"));
    assert_eq!(acks[1].outcome, Verdict::Success);
    fixture.run(|conn| quarantine::release(conn, "A")).await;
    assert_eq!(fixture.deliver(&events[..1]).await[0].outcome, Verdict::Success);
}

async fn the_unreadable_is_set_aside_and_answered_where_it_can_be(fixture: InboxFixture) {
    let event = fixture.event("test.changed", "A");
    let mut newer = record(&event);
    for (name, value) in &mut newer.headers {
        if name == "ce_specversion" {
            *value = b"2.0".to_vec();
        }
    }
    let noise = Record { headers: Vec::new(), payload: Some(vec![0, 255]), ..record(&event) };
    let good = fixture.event("test.changed", "B");
    let records = vec![noise.clone(), newer, record(&good), noise];
    let applied = fixture.inbox.apply(records, false).await.unwrap();
    assert_eq!((applied.unreadable, applied.acks.len()), (3, 2));
    let refusal = &applied.acks.iter().find(|(_, ack)| ack.event_id == event.id).unwrap().1;
    assert_eq!((refusal.outcome, refusal.retryable), (Verdict::Failed, false));
    assert!(refusal.error.as_ref().unwrap().contains("2.0"));
    assert_eq!(
        (fixture.effects("B").await, fixture.dead_letters().await),
        (1, 2),
        "the same noise is one letter"
    );
}

/// A message that is not signed may name an event that is on its way: to answer it would fail that one.
async fn what_is_not_believed_is_set_aside_and_not_answered(fixture: InboxFixture) {
    let signing = signing_for_tests(SignatureRequirement::All);
    let positions = ReadPositions::new("order-service", "inventory");
    let inbox = Inbox { signing: signing.clone(), positions, ..fixture.inbox.clone() };
    let (good, bad) = (fixture.event("test.changed", "A"), fixture.event("test.changed", "B"));
    let whole = signed(&good, &signing);
    let mut unreadable = record(&good);
    unreadable.headers.retain(|(name, _)| name != "ce_type");
    let records = [
        Record { payload: Some(b"{}x".to_vec()), ..whole.clone() },
        record(&bad),
        unreadable,
        Record { key: Some(b"B".to_vec()), ..whole.clone() },
        whole,
    ];
    let records = (1..).zip(records).map(|(offset, record)| Record { offset, ..record });
    let applied = inbox.apply(records.collect::<Vec<_>>(), false).await.unwrap();
    let answered: Vec<_> =
        applied.acks.iter().map(|(_, ack)| (ack.event_id, ack.outcome, ack.offset)).collect();
    assert_eq!(answered, [(good.id, Verdict::Success, Some(5))]);
    let counts = applied.signatures.counts().map(|(_, count)| count);
    assert_eq!((counts, applied.signatures.refused(), applied.unreadable), ([1, 2, 0, 2], 4, 4));
    assert_eq!((fixture.effects("A").await, fixture.effects("B").await), (1, 0));
    let letters: Vec<(i64, String)> = fixture
        .run(|conn| {
            on!(conn, c => dead_letter::table
                .select((dead_letter::offset, dead_letter::error))
                .order(dead_letter::offset)
                .load(c))
        })
        .await;
    let words = ["does not fit", "not signed", "not signed", "does not fit"];
    assert_eq!(letters.len(), words.len());
    for ((offset, error), (expected, words)) in letters.iter().zip((1..).zip(words)) {
        assert!(*offset == expected && error.contains(words), "{letters:?}");
    }
    // The database is as far as the group: else it would look like one from a backup.
    let position = read_position::table.select(read_position::next_offset);
    let position: i64 = fixture.run(move |conn| on!(conn, c => position.first(c))).await;
    assert_eq!(position, 6);
}

/// All of it is counted, but no more is kept than a person looks at.
async fn a_flood_that_is_not_believed_fills_nothing(fixture: InboxFixture) {
    let signing = signing_for_tests(SignatureRequirement::All);
    let inbox = Inbox { signing: signing.clone(), ..fixture.inbox.clone() };
    let forged = record(&fixture.event("test.changed", "A"));
    let flood = async |first: i64| {
        let records = (first..first + 60).map(|offset| Record { offset, ..forged.clone() });
        let good = signed(&fixture.event("test.changed", "B"), &signing);
        let records: Vec<Record> = records.chain([Record { offset: first + 60, ..good }]).collect();
        let applied = inbox.apply(records, false).await.unwrap();
        assert_eq!((applied.unreadable, applied.signatures.refused()), (60, 60));
        assert_eq!(applied.acks.len(), 1, "the one beside them is taken");
        fixture.dead_letters().await
    };
    assert_eq!([flood(0).await, flood(100).await, flood(200).await], [60, 100, 100]);
    // What a person is done with makes room.
    let (state, handled_at) = (DeadLetterState::Discarded, Some(START));
    let done = (dead_letter::state.eq(state), dead_letter::handled_us.eq(handled_at));
    fixture
        .run(move |conn| on!(conn, c => diesel::update(dead_letter::table).set(done).execute(c)))
        .await;
    assert_eq!(flood(300).await, 160);
}

async fn what_need_not_be_signed_is_applied(fixture: InboxFixture) {
    for require in [SignatureRequirement::None, SignatureRequirement::Acks] {
        let inbox = Inbox { signing: signing_for_tests(require), ..fixture.inbox.clone() };
        let event = fixture.event("test.changed", "A");
        let applied = inbox.apply(vec![record(&event)], false).await.unwrap();
        assert_eq!(applied.acks[0].1.outcome, Verdict::Success, "{require:?}");
        let counts = applied.signatures.counts().map(|(_, count)| count);
        assert_eq!((counts, applied.signatures.refused()), ([0, 1, 0, 0], 0), "it is counted");
    }
    assert_eq!((fixture.effects("A").await, fixture.dead_letters().await), (2, 0));
}

async fn a_topic_of_which_nothing_is_believed_is_told(fixture: InboxFixture) {
    let signing = signing_for_tests(SignatureRequirement::All);
    let inbox = Inbox { signing: signing.clone(), ..fixture.inbox.clone() };
    let condition = fixture.condition(AlertKind::NotTrusted, Duration::ZERO);
    let refusals = Refusals::new(&fixture.env, "order-service", "inventory", condition);
    let deliver = async |records: Vec<Record>| {
        let applied = inbox.apply(records, false).await.unwrap();
        refusals.tell(&applied.signatures).await;
    };
    let told = async || {
        let alerts = alert::table.select((alert::kind, alert::key, alert::closed_us.is_null()));
        let told: Vec<(String, Option<String>, bool)> =
            fixture.run(move |conn| on!(conn, c => alerts.load(c))).await;
        told
    };
    let forged = record(&fixture.event("test.changed", "A"));
    let good = signed(&fixture.event("test.changed", "A"), &signing);
    deliver(vec![Record { offset: 1, ..forged.clone() }, good.clone()]).await;
    assert!(told().await.is_empty(), "one among others keeps nothing from being taken");
    deliver(vec![Record { offset: 3, ..forged.clone() }]).await;
    let alert = |is_open| ("not_trusted".to_owned(), Some("inventory".to_owned()), is_open);
    assert_eq!(told().await, [alert(true)]);
    deliver(vec![Record { offset: 4, ..forged }]).await;
    assert_eq!(told().await, [alert(true)], "once");
    deliver(vec![Record { offset: 5, ..good }]).await;
    assert_eq!(told().await, [alert(false)]);
}
