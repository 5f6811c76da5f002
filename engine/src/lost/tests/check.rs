#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use common::on;
use common::schema::outbox_pending;
use diesel::prelude::*;
use serde_json::json;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::locks::until_waiting;
use stockloop_tests::on_every_database;

use super::super::fixture::{LostFixture, Receiver, START};
use super::super::{Selection, Verdict, find};
use super::*;

on_every_database!(
    LostFixture::new =>
    what_the_inbox_does_not_know_is_lost,
    only_commands_that_succeeded_are_asked_about,
    what_may_be_forgotten_is_not_called_lost,
    a_receiver_that_fails_is_asked_again,
    an_answer_that_comes_late_is_looked_at,
    another_instance_goes_on_between_pages,
    told_twice_it_is_looked_for_once,
    a_second_restore_finds_what_it_lost_again,
    what_does_not_matter_is_closed_by_itself,
);

/// Two searches go on at once, and the same commands lie in another order in the table than their ids say.
#[actix_web::test]
async fn searches_at_once_do_not_wait_for_each_other() {
    let Some(database) = TestDatabase::postgres() else { return };
    let fixture = LostFixture::new(database);
    let ids = fixture.commands(&["A", "B"]).await;
    let found = move |conn: &mut Conn, check: i64, ids: &[EventId]| {
        let lost = ids.iter().map(|id| (*id, START)).collect();
        model::insert(conn, check, START, START, &lost).map(drop)
    };
    let backwards = ids.clone();
    fixture.run(move |conn| backwards.iter().rev().try_for_each(|id| found(conn, 1, &[*id]))).await;
    let (first, known) = (ids[0], ids.clone());
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let holds = fixture.run(move |conn| {
        model::lock(conn, first)?;
        let _ = locked.send(());
        until_waiting(conn, 2)
    });
    let meets = async {
        is_locked.await.unwrap();
        let tidies = fixture.run(|conn| model::lock_open(conn, None, 10).map(drop));
        let searches = fixture.run(move |conn| {
            until_waiting(conn, 1)?;
            found(conn, 2, &known)
        });
        tokio::join!(tidies, searches);
    };
    tokio::join!(holds, meets);
}

async fn what_the_inbox_does_not_know_is_lost(fixture: LostFixture) {
    let ids = fixture.commands(&["A", "B", "C"]).await;
    fixture.receiver_lost(&ids[1..2]);
    fixture.begin().await;
    let check = fixture.check().await;
    assert!(check.ended_us.is_some(), "{check:?}");
    assert_eq!((check.asked, check.found, check.unclear), (3, 1, 0));
    assert_eq!(fixture.states().await, [("B".to_owned(), State::Open)]);
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 1);
    assert!(
        alerts[0].starts_with("The effect of one command of order-service was lost"),
        "{alerts:?}"
    );
}

async fn only_commands_that_succeeded_are_asked_about(fixture: LostFixture) {
    let no = fixture.events("command", &["no".to_owned()]).await;
    fixture.settle(&no, FinalOutcome::Rejected, START).await;
    let state = fixture.events("state", &["state".to_owned()]).await;
    fixture.settle(&state, FinalOutcome::Success, START).await;
    let old = fixture.events("command", &["old".to_owned()]).await;
    fixture.settle(&old, FinalOutcome::Success, START.before(2 * MARGIN)).await;
    fixture.receiver_lost(&[no, state, old].concat());
    fixture.begin().await;
    let check = fixture.check().await;
    assert_eq!((check.ended_us.is_some(), check.asked, check.found), (true, 0, 0));
    assert!(fixture.asked.lock().unwrap().is_empty());
}

async fn what_may_be_forgotten_is_not_called_lost(fixture: LostFixture) {
    let ids = fixture.commands(&["A"]).await;
    fixture.clock.advance(Duration::from_secs(60));
    let known_from = fixture.lost.env.now();
    let later = fixture.commands(&["B"]).await;
    *fixture.receiver.lock().unwrap() = Receiver::Without([ids, later].concat(), Some(known_from));
    fixture.begin().await;
    let check = fixture.check().await;
    assert_eq!((check.asked, check.found, check.unclear), (2, 1, 1));
    assert_eq!(check.known_from_us, Some(known_from));
    assert_eq!(fixture.states().await, [("B".to_owned(), State::Open)]);
}

async fn a_receiver_that_fails_is_asked_again(fixture: LostFixture) {
    let ids = fixture.commands(&["A"]).await;
    fixture.begin().await;
    let stranger = fixture.lost.env.event_id();
    let lies = json!({"service": "product-service", "unknown": [stranger], "known_from": null});
    let another = json!({"service": "search-service", "unknown": [], "known_from": null});
    for (receiver, why) in [
        (Receiver::Status(503), "503"),
        (Receiver::Status(404), "404"),
        (Receiver::Body(json!({"rows": []})), "can't be read"),
        (Receiver::Body(lies), "was not asked about"),
        (Receiver::Body(another), "search-service answers there"),
        (Receiver::Hangs, "can't be asked"),
    ] {
        *fixture.receiver.lock().unwrap() = receiver;
        fixture.clock.advance(AGAIN);
        assert!(fixture.lost.run_once().await.unwrap().open);
        let check = fixture.run(model::latest_check).await.unwrap();
        let waits = check.waits_for.unwrap_or_default();
        assert!(waits.contains(why), "{why}: {waits}");
        assert_eq!((check.asked, check.ended_us), (0, None));
    }
    assert!(fixture.states().await.is_empty());
    // When it is asked again is noted by a clock that ran ahead and was set right.
    let day = Duration::from_secs(24 * 60 * 60);
    fixture.clock.advance(day);
    for status in [404, 503] {
        *fixture.receiver.lock().unwrap() = Receiver::Status(status);
        assert!(fixture.lost.run_once().await.unwrap().open);
        let waits = fixture.run(model::latest_check).await.unwrap().waits_for.unwrap();
        assert!(waits.contains(&status.to_string()), "{status}: {waits}");
        if status == 404 {
            fixture.clock.set_back(day);
        }
    }
    fixture.receiver_lost(&ids);
    let check = fixture.check().await;
    assert_eq!((check.ended_us.is_some(), check.found, check.waits_for), (true, 1, None));
}

/// It was given before the restore, and is read after the check began.
async fn an_answer_that_comes_late_is_looked_at(fixture: LostFixture) {
    let late = fixture.events("command", &["late".to_owned()]).await;
    let pending = late[0];
    fixture
        .run(move |conn| {
            use outbox_pending as p;
            let row = (
                p::id.eq(pending),
                p::shard.eq(0_i16),
                p::tx.eq(1_i64),
                p::attempt_limit.eq(3),
                p::due_us.eq(START),
                p::size.eq(2),
            );
            on!(conn, c => diesel::insert_into(p::table).values(row).execute(c))
        })
        .await;
    fixture.commands(&["A"]).await;
    fixture.receiver_lost(&late);
    fixture.begin().await;
    let check = fixture.check().await;
    assert_eq!((check.ended_us, check.found), (None, 0));
    assert!(check.waits_for.unwrap().contains(&pending.to_string()));
    // What is made after the check began is not its business.
    fixture.commands(&["later"]).await;
    fixture
        .run(move |conn| {
            on!(conn, c => diesel::delete(outbox_pending::table.find(pending)).execute(c))
        })
        .await;
    fixture.settle(&late, FinalOutcome::Success, fixture.lost.env.now()).await;
    let check = fixture.check().await;
    assert_eq!((check.ended_us.is_some(), check.found), (true, 1), "{check:?}");
    assert_eq!(fixture.states().await, [("late".to_owned(), State::Open)]);
}

async fn another_instance_goes_on_between_pages(fixture: LostFixture) {
    let keys: Vec<String> = (0..PAGE + 20).map(|n| format!("K{n:04}")).collect();
    let ids = fixture.events("command", &keys).await;
    fixture.settle(&ids, FinalOutcome::Success, START).await;
    fixture.receiver_lost(&ids);
    fixture.begin().await;
    assert!(fixture.lost.run_once().await.unwrap().open);
    assert_eq!(fixture.states().await.len(), PAGE);
    // Whoever began is gone; another one has nothing but the database.
    let other = Lost { woken: Arc::default(), ..fixture.lost.clone() };
    assert!(!other.run_once().await.unwrap().open);
    assert_eq!(fixture.states().await.len(), PAGE + 20);
    assert_eq!(*fixture.asked.lock().unwrap(), [PAGE, 20]);
}

async fn told_twice_it_is_looked_for_once(fixture: LostFixture) {
    let ids = fixture.commands(&["A"]).await;
    fixture.receiver_lost(&ids);
    let seq = fixture.begin().await;
    fixture.check().await;
    fixture.decide(Selection::One(ids[0]), Verdict::Accept).await.unwrap();
    assert_eq!(fixture.begin().await, seq);
    let check = fixture.check().await;
    assert_eq!((check.seq, check.found), (seq, 1));
    assert_eq!(fixture.states().await, [("A".to_owned(), State::Accepted)]);
}

/// The correction by hand for which a command was accepted is lost with the same backup; one that is in it is not.
async fn a_second_restore_finds_what_it_lost_again(fixture: LostFixture) {
    let ids = fixture.commands(&["A", "B", "C"]).await;
    fixture.receiver_lost(&ids);
    fixture.begin().await;
    assert_eq!(fixture.check().await.found, 3);
    fixture.decide(Selection::One(ids[0]), Verdict::Accept).await.unwrap();
    fixture.decide(Selection::One(ids[1]), Verdict::Again).await.unwrap();

    fixture.begin_after("2-1800000001", Some(START)).await;
    let check = fixture.check().await;
    assert!(check.ended_us.is_some(), "{check:?}");
    assert_eq!((check.seq, check.asked, check.found), (2, 3, 3));
    let states = [("A", State::Open), ("B", State::Again), ("C", State::Open)];
    assert_eq!(fixture.states().await, states.map(|(key, state)| (key.to_owned(), state)));
    let first = ids[0];
    let row = fixture.run(move |conn| find(conn, first)).await.unwrap();
    assert_eq!((row.found_by, row.closed_us), (2, None));
    assert_eq!(row.reason.as_deref(), Some("accepted before by ada: "));
    assert!(fixture.alerts().await[0].contains("2 commands"));

    fixture.decide(Selection::One(first), Verdict::Accept).await.unwrap();
    let later = fixture.lost.env.now().after(Duration::from_secs(10 * 60));
    fixture.begin_after("3-1800000002", Some(later)).await;
    assert_eq!(fixture.check().await.found, 3);
    assert_eq!(fixture.states().await[0].1, State::Accepted, "what made it good is in that backup");
    fixture.begin_after("4-1800000003", None).await;
    assert_eq!(fixture.check().await.found, 3);
    assert_eq!(fixture.states().await[0].1, State::Accepted, "nothing says that it was lost");
}

async fn what_does_not_matter_is_closed_by_itself(fixture: LostFixture) {
    let ids = fixture.commands(&["A", "B"]).await;
    fixture.receiver_lost(&ids);
    fixture.commander.obsolete.lock().unwrap().insert("A".to_owned());
    fixture.begin().await;
    fixture.check().await;
    assert_eq!(
        fixture.states().await,
        [("A".to_owned(), State::Obsolete), ("B".to_owned(), State::Open)]
    );
    fixture.commander.obsolete.lock().unwrap().insert("B".to_owned());
    assert_eq!(fixture.lost.tidy(None).await.unwrap(), None);
    let second = ids[1];
    let row = fixture.run(move |conn| find(conn, second)).await.unwrap();
    assert_eq!((row.state, row.reason.as_deref()), (State::Obsolete, Some("it is over")));
    assert!(fixture.alerts().await.is_empty(), "nothing is open");
}
