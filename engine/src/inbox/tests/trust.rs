//! Whom it believes: what is not signed as it has to be changes nothing, fills nothing, and is told.

use common::config::SignatureRequirement;
use common::on;
use common::schema::{alert, dead_letter, read_position};
use diesel::prelude::*;

use super::*;
use crate::dead_letters::DeadLetterState;
use crate::kafka::signing_for_tests;
use crate::restored::ReadPositions;

on_every_database!(InboxFixture::new =>
    what_is_not_believed_is_set_aside_and_not_answered,
    a_flood_that_is_not_believed_fills_nothing,
    what_need_not_be_signed_is_applied,
    a_topic_of_which_nothing_is_believed_is_told,
);

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
