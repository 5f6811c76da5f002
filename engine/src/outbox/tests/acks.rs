//! What answers come to: one bad one alone, copies that are ahead, counts.

use common::config::SignatureRequirement;
use common::schema::{outbox_settled, read_position};
use common::telemetry::SignedMessage;

use super::*;
use crate::dead_letters;
use crate::kafka::{Message, SignatureChecks, received_for_tests, signing_for_tests};
use crate::verify::tests::fixture::{Items, TABLE};

on_every_database!(OutboxFixture::new =>
    one_bad_ack_batch_does_not_stop_the_others,
    one_bad_ack_does_not_stop_those_beside_it,
    nothing_that_passes_proves_nothing_against_an_answer,
    a_copy_ahead_of_its_source_is_told,
    a_copy_that_has_the_owners_state_is_not_ahead,
    a_clock_that_ran_ahead_makes_no_copy_ahead,
    answers_and_failures_are_counted,
    what_fails_says_when_it_is_due_first,
    an_answer_to_a_later_event_than_any_shows_a_database_from_a_backup,
    a_forged_answer_changes_nothing_and_is_counted,
    one_answer_that_is_set_aside_is_signed_like_those_beside_it,
);

async fn one_bad_ack_batch_does_not_stop_the_others(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let shard = fixture.open(id).await.unwrap().shard;
    let record = |payload: &[u8], offset| Record {
        topic: "acks".to_owned(),
        offset,
        payload: Some(payload.to_vec()),
        ..Record::default()
    };
    let good = serde_json::to_vec(&AckBatch { acks: vec![fixture.ack(id, 1, Verdict::Success)] });
    let records = vec![record(b"{", 1), record(&good.unwrap(), 2), record(b"[]", 3)];
    let settlement = fixture.settler.settle(&fixture.db, records, false).await.unwrap();
    assert_eq!((settlement.unreadable, settlement.advanced.settled.len()), (2, 1));
    let released = BTreeMap::from([(shard, (1, 2))]);
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
        offset: 1,
        payload: Some(serde_json::to_vec(&AckBatch { acks }).unwrap()),
        ..Record::default()
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

/// A table that is away refuses every answer: none is set aside, and the cause is told.
async fn nothing_that_passes_proves_nothing_against_an_answer(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 1).await;
    fixture.send(id, 1, 0).await;
    let acks = AckBatch { acks: vec![fixture.ack(id, 1, Verdict::Success)] };
    let record = Record {
        topic: "acks".to_owned(),
        offset: 1,
        payload: Some(serde_json::to_vec(&acks).unwrap()),
        ..Record::default()
    };
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    let away = rename("outbox_settled", "away");
    fixture.run(move |conn| conn.batch_execute(&away)).await;
    for repeats in [false, true] {
        let settled = fixture.settler.settle(&fixture.db, vec![record.clone()], repeats).await;
        let error = settled.expect_err("nothing can be settled");
        assert!(error.to_string().contains("outbox_settled"), "{error}");
    }
    let back = rename("away", "outbox_settled");
    fixture.run(move |conn| conn.batch_execute(&back)).await;
    let settlement = fixture.settler.settle(&fixture.db, vec![record], true).await.unwrap();
    assert_eq!((settlement.unreadable, settlement.advanced.settled.len()), (0, 1));
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

/// A state of before was sent again, and the events of the later ones are deleted already.
async fn a_copy_that_has_the_owners_state_is_not_ahead(fixture: OutboxFixture) {
    let id = fixture.append(SNAPSHOT, "A", 3).await;
    fixture.send(id, 1, 0).await;
    fixture
        .run(|conn| {
            conn.batch_execute(&TABLE.replace("{C}", ""))?;
            conn.batch_execute("INSERT INTO item VALUES ('A', NULL, 9, FALSE, '', 0)")
        })
        .await;
    let settler = Settler { owner: Some(Arc::new(Items)), ..fixture.settler.clone() };
    let answer = |version: i64| {
        let ack = Ack {
            detail: Some("superseded".to_owned()),
            version: Some(version),
            ..fixture.ack(id, 1, Verdict::Success)
        };
        Record {
            topic: "acks".to_owned(),
            offset: version,
            payload: Some(serde_json::to_vec(&AckBatch { acks: vec![ack] }).unwrap()),
            ..Record::default()
        }
    };
    let alerts = async || -> i64 {
        fixture.run(|conn| on!(conn, c => alert::table.count().get_result(c))).await
    };
    settler.settle(&fixture.db, vec![answer(9)], false).await.unwrap();
    assert_eq!(alerts().await, 0);
    settler.settle(&fixture.db, vec![answer(10)], false).await.unwrap();
    assert_eq!(alerts().await, 1);
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

async fn what_fails_says_when_it_is_due_first(fixture: OutboxFixture) {
    let mut acks = Vec::new();
    for key in ["A", "B", "C"] {
        let id = fixture.append(SNAPSHOT, key, 1).await;
        fixture.send(id, 1, 0).await;
        acks.push(fixture.ack(id, 1, Verdict::Failed));
    }
    acks[2].outcome = Verdict::Success;
    let ids: Vec<EventId> = acks.iter().map(|ack| ack.event_id).collect();
    let settlement = fixture.settle(acks).await;
    let due = [fixture.open(ids[0]).await, fixture.open(ids[1]).await];
    let first = due.into_iter().flatten().map(|open| open.due_us).min();
    assert!(first > Some(fixture.env.now()), "{first:?}");
    assert_eq!((settlement.advanced.again, settlement.advanced.next_due), (2, first));
    let nothing = fixture.settle(vec![fixture.ack(ids[2], 1, Verdict::Success)]).await;
    assert_eq!(nothing.advanced.next_due, None);
}

async fn an_answer_to_a_later_event_than_any_shows_a_database_from_a_backup(f: OutboxFixture) {
    let newest = async |f: &OutboxFixture| {
        let found = f.run(|conn| crate::restored::newest(conn, "product-service")).await;
        found.map(|row| (row.since_us, row.detail))
    };
    let earlier = f.env.event_id();
    f.clock.advance(Duration::from_secs(1));
    let known = f.append(SNAPSHOT, "A", 1).await;
    let made = f.env.now();
    let settlement = f.settle(vec![f.ack(earlier, 1, Verdict::Success)]).await;
    assert_eq!((settlement.unknown, newest(&f).await), (1, None), "it may be anybody's");
    f.clock.advance(Duration::from_secs(1));
    let later = f.env.event_id();
    let mut foreign = f.ack(later, 1, Verdict::Success);
    foreign.consumer = "somebody".to_owned();
    f.settle(vec![foreign]).await;
    assert_eq!(newest(&f).await, None, "nobody asked it");
    let by_chance = "ffffffff-ffff-4fff-bfff-ffffffffffff".parse().unwrap();
    let of_tomorrow = EventId::first_at(f.env.now().after(Duration::from_secs(86_400)));
    f.settle(vec![f.ack(by_chance, 1, Verdict::Success), f.ack(of_tomorrow, 1, Verdict::Success)])
        .await;
    assert_eq!(newest(&f).await, None, "no instance of this service made these");
    f.settle(vec![f.ack(known, 1, Verdict::Success), f.ack(later, 1, Verdict::Success)]).await;
    let (since, detail) = newest(&f).await.unwrap();
    assert_eq!(since, Some(made));
    assert!(detail.contains(&later.to_string()), "{detail}");
    assert_eq!(f.alerts().await.len(), 1);
}

impl OutboxFixture {
    /// A message with these answers, as order-service sends it.
    fn answers(&self, acks: Vec<Ack>) -> Message {
        let batch = AckBatch { acks };
        let (id, now) = (self.env.event_id(), self.env.now());
        batch.to_message(id, now, "order-service", "acks", 0).unwrap()
    }

    async fn settled_ids(&self) -> Vec<EventId> {
        self.run(|conn| {
            on!(conn, c => outbox_settled::table
                .select(outbox_settled::id)
                .order(outbox_settled::id)
                .load(c))
        })
        .await
    }
}

/// Whoever may write to the topic may say what they want: without the key it is only counted.
async fn a_forged_answer_changes_nothing_and_is_counted(fixture: OutboxFixture) {
    let signing = signing_for_tests(SignatureRequirement::Acks);
    let settler = Settler { signing: signing.clone(), ..fixture.settler.clone() };
    let (first, second) =
        (fixture.append(SNAPSHOT, "A", 1).await, fixture.append(SNAPSHOT, "B", 1).await);
    for id in [first, second] {
        fixture.send(id, 1, 0).await;
    }
    let later = EventId::first_at(START.after(Duration::from_secs(60)));
    let before = (fixture.open(first).await, fixture.open(second).await);
    let refusal = Ack { retryable: false, ..fixture.ack(second, 1, Verdict::Failed) };
    let forged = fixture.answers(vec![
        fixture.ack(first, 1, Verdict::Success),
        refusal,
        // An answer to what was never sent would show a database from a backup.
        fixture.ack(later, 1, Verdict::Success),
    ]);
    let whole = fixture.answers(vec![fixture.ack(first, 1, Verdict::Success)]);
    let whole = received_for_tests(&whole, signing.sign(&whole));
    let copied = whole.headers.iter().find(|(name, _)| name == "stockloopsignature").cloned();
    let mut with_a_copy = received_for_tests(&forged, None);
    with_a_copy.headers.extend(copied);
    let records = [received_for_tests(&forged, None), with_a_copy];
    let records = (1..).zip(records).map(|(offset, record)| Record { offset, ..record });
    let settlement = settler.settle(&fixture.db, records.collect(), false).await.unwrap();
    let counts = settlement.signatures.counts().map(|(_, count)| count);
    assert_eq!((counts, settlement.signatures.refused()), ([0, 1, 0, 1], 2));
    let rest = Settlement { signatures: SignatureChecks::default(), ..settlement };
    assert_eq!(format!("{rest:?}"), format!("{:?}", Settlement::default()), "nothing came of it");
    assert_eq!((fixture.open(first).await, fixture.open(second).await), before);
    assert!(fixture.alerts().await.is_empty());
    let letters = dead_letter::table.count();
    let letters: i64 = fixture.run(move |conn| on!(conn, c => letters.get_result(c))).await;
    assert_eq!(letters, 0, "nobody fills the database");
    let position = read_position::table.select(read_position::next_offset);
    let position: i64 = fixture.run(move |conn| on!(conn, c => position.first(c))).await;
    assert_eq!(position, 3, "it is read, so that the database is as far as the group");

    let record = Record { offset: 3, ..whole };
    let settlement = settler.settle(&fixture.db, vec![record], false).await.unwrap();
    assert_eq!((settlement.signatures.valid(), fixture.settled_ids().await), (1, vec![first]));
}

/// Its dead letter is a message of its own, which a person may send again.
async fn one_answer_that_is_set_aside_is_signed_like_those_beside_it(fixture: OutboxFixture) {
    let signing = signing_for_tests(SignatureRequirement::All);
    let settler = Settler { signing: signing.clone(), ..fixture.settler.clone() };
    let mut acks = Vec::new();
    for version in 1..=3 {
        let id = fixture.append(SNAPSHOT, &format!("K{version}"), version).await;
        fixture.send(id, 1, 0).await;
        acks.push(fixture.ack(id, 1, Verdict::Success));
    }
    // As in the test of such an answer without signatures.
    acks[1].detail = Some("a\0b".to_owned());
    let message = fixture.answers(acks);
    let record = received_for_tests(&message, signing.sign(&message));
    let settlement = settler.settle(&fixture.db, vec![record], false).await.unwrap();
    if settlement.unreadable == 0 {
        // This database takes it.
        assert_eq!(fixture.settled_ids().await.len(), 3);
        return;
    }
    let letter = fixture
        .run(|conn| {
            let seq = on!(&mut *conn, c => dead_letter::table.select(dead_letter::seq).first(c))?;
            dead_letters::message_of(conn, seq)
        })
        .await;
    let (letter, ..) = letter.expect("it is kept");
    let mut checks = SignatureChecks::default();
    let checked = signing.check(SignedMessage::Ack, &letter, &mut checks);
    assert_eq!((checked, checks.valid()), (Ok(()), 1));
}
