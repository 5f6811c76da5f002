#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use stockloop_tests::on_every_database;

use super::super::find;
use super::super::fixture::{LostFixture, START};
use super::*;
use crate::outbox::FinalOutcome;

on_every_database!(
    LostFixture::new =>
    what_is_decided_is_not_decided_again,
    all_are_decided_page_by_page,
    what_is_not_kept_can_only_be_accepted,
);

async fn what_is_decided_is_not_decided_again(fixture: LostFixture) {
    let ids = fixture.commands(&["A", "B"]).await;
    fixture.receiver_lost(&ids);
    fixture.begin().await;
    fixture.check().await;
    let decided = fixture.decide(Selection::One(ids[0]), Verdict::Again).await.unwrap();
    assert_eq!((decided.again, decided.next), (1, None));
    let refused = fixture.decide(Selection::One(ids[0]), Verdict::Accept).await.unwrap_err();
    assert!(refused.contains("closed already: again"), "{refused}");
    let stranger = fixture.lost.env.event_id();
    let refused = fixture.decide(Selection::One(stranger), Verdict::Again).await.unwrap_err();
    assert!(refused.contains("is no lost command"), "{refused}");
    fixture.commander.obsolete.lock().unwrap().insert("B".to_owned());
    let decided = fixture.decide(Selection::One(ids[1]), Verdict::Again).await.unwrap();
    assert_eq!((decided.again, decided.obsolete), (0, 1));
    assert_eq!(*fixture.commander.sent.lock().unwrap(), ["A"]);
    let first = ids[0];
    let row = fixture.run(move |conn| find(conn, first)).await.unwrap();
    assert!(row.sent_as.is_some_and(|sent| sent > first));
    assert_eq!(row.closed_by.as_deref(), Some("ada"));
    assert!(fixture.alerts().await.is_empty());
}

async fn all_are_decided_page_by_page(fixture: LostFixture) {
    let keys: Vec<String> = (0..150).map(|n| format!("K{n:04}")).collect();
    let ids = fixture.events("command", &keys).await;
    fixture.settle(&ids, FinalOutcome::Success, START).await;
    fixture.receiver_lost(&ids);
    fixture.begin().await;
    fixture.check().await;
    let first = fixture.decide(Selection::OpenAfter(None), Verdict::Again).await.unwrap();
    assert_eq!((first.again, first.next), (100, Some(ids[99])));
    let rest = fixture.decide(Selection::OpenAfter(first.next), Verdict::Again).await.unwrap();
    assert_eq!((rest.again, rest.next), (50, None));
    assert_eq!(*fixture.commander.sent.lock().unwrap(), keys);
}

async fn what_is_not_kept_can_only_be_accepted(fixture: LostFixture) {
    let ids = fixture.commands(&["A"]).await;
    fixture.receiver_lost(&ids);
    fixture.commander.not_kept.lock().unwrap().insert("A".to_owned());
    fixture.begin().await;
    fixture.check().await;
    let refused = fixture.decide(Selection::One(ids[0]), Verdict::Again).await.unwrap_err();
    assert!(refused.contains("no longer kept"), "{refused}");
    let all = fixture.decide(Selection::OpenAfter(None), Verdict::Again).await.unwrap();
    assert_eq!((all.again, all.skipped), (0, 1));
    assert_eq!(fixture.states().await, [("A".to_owned(), State::Open)]);
    let all = fixture.decide(Selection::OpenAfter(None), Verdict::Accept).await.unwrap();
    assert_eq!(all.accepted, 1);
}
