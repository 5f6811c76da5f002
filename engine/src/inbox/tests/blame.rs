//! Whose fault a failure is: only the bad event pays for it, and what is no event's fault costs none an attempt.

use common::db::{Backend, Conn, Fault};

use super::*;
use crate::batch::BatchError;

on_every_database!(InboxFixture::new =>
    only_the_bad_event_fails,
    what_was_written_before_a_batch_was_cut_is_written_once,
    a_flawed_handler_stops_nobody,
    what_fails_for_everything_is_blamed_on_nothing,
    a_table_that_is_away_is_blamed_on_nothing,
    one_event_that_a_trigger_can_not_bear_stops_nobody,
    many_bad_events_hide_no_good_one,
    answers_that_can_not_be_kept_are_blamed_on_nothing,
    one_bad_witness_is_not_believed,
    data_alone_is_suspected_at_last,
);

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

async fn what_was_written_before_a_batch_was_cut_is_written_once(fixture: InboxFixture) {
    fixture.run(|conn| effect(conn, "taken")).await;
    let events = ["A", "taken"].map(|key| record(&fixture.event("test.changed", key)));
    let noise = Record { headers: Vec::new(), payload: Some(vec![0, 255]), ..events[0].clone() };
    let batch = [vec![noise], events.to_vec()].concat();
    let applied = fixture.inbox.apply(batch, false).await.unwrap();
    let outcomes = applied.acks.iter().map(|(_, ack)| ack.outcome);
    assert_eq!(outcomes.collect::<Vec<_>>(), [Verdict::Success, Verdict::Failed]);
    assert_eq!((applied.unreadable, fixture.dead_letters().await), (1, 1));
    assert_eq!((fixture.effects("A").await, fixture.kept().await), (1, 1));
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
