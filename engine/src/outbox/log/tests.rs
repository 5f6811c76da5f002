//! The feed by itself: what is passed when, and what is left to the table. The log itself is read in the suites.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::ids::EventId;
use uuid::Uuid;

use super::super::store::DueRow;
use super::feed::{LogFeed, Mark};

fn row(shard: i16, id: u128) -> DueRow {
    DueRow {
        id: EventId::from_uuid(Uuid::from_u128(id)),
        shard,
        attempt: 0,
        size: 2,
        tx: 0,
        event_type: "test.changed".to_owned(),
        key: format!("key-{shard}"),
        epoch: 1,
        payload: "{}".to_owned(),
        traceparent: None,
        created_us: Timestamp::default(),
    }
}

fn mark(horizon: i64) -> Mark {
    Mark { horizon, lsn: horizon.unsigned_abs() * 10 }
}

/// A session that holds the shards 0 to 2, and has read its own first mark.
fn begun() -> LogFeed {
    let feed = LogFeed::default();
    feed.attach();
    feed.mark(true, mark(1));
    feed
}

fn held() -> BTreeSet<i16> {
    BTreeSet::from([0, 1, 2])
}

fn ids(rows: &[DueRow]) -> Vec<u128> {
    rows.iter().map(|row| row.id.uuid().as_u128()).collect()
}

#[test]
fn the_table_has_everything_while_nothing_is_read() {
    let feed = LogFeed::default();
    assert_eq!(feed.table_ends_at(), None);
    feed.attach();
    assert_eq!(feed.table_ends_at(), Some(0), "nothing, before a mark came");
    feed.mark(true, mark(7));
    assert_eq!(feed.table_ends_at(), Some(7));
    feed.detach();
    assert_eq!(feed.table_ends_at(), None);
}

#[test]
fn a_mark_is_passed_when_all_before_it_is_dealt_with() {
    let feed = begun();
    (1..=3).for_each(|id| feed.push(row(0, id)));
    feed.mark(true, mark(20));
    feed.push(row(1, 4));
    feed.mark(true, mark(30));
    assert_eq!((feed.table_ends_at(), feed.passed()), (Some(1), 10));
    let first = feed.take(&held(), &[0, 1, 2], 2, |_| true);
    let second = feed.take(&held(), &[0, 1, 2], 9, |_| true);
    assert_eq!((ids(&first.rows), ids(&second.rows)), (vec![1, 2], vec![3, 4]));
    // The later ones are done first.
    feed.finish(second.places);
    assert_eq!(feed.table_ends_at(), Some(1));
    feed.finish(first.places);
    assert_eq!((feed.table_ends_at(), feed.passed()), (Some(30), 300));
}

#[test]
fn what_the_broker_did_not_take_waits_in_its_order() {
    let feed = begun();
    (1..=4).for_each(|id| feed.push(row(0, id)));
    feed.mark(true, mark(20));
    let taken = feed.take(&held(), &[0], 3, |_| true);
    feed.finish(taken.places[..1].iter().copied());
    feed.put_back(taken.rows.into_iter().zip(taken.places).skip(1).collect::<Vec<_>>().into_iter());
    assert_eq!(feed.table_ends_at(), Some(1));
    let again = feed.take(&held(), &[0], 9, |_| true);
    assert_eq!(ids(&again.rows), [2, 3, 4]);
    feed.finish(again.places);
    assert_eq!(feed.table_ends_at(), Some(20));
}

#[test]
fn what_does_not_fit_waits_and_keeps_no_other_shard_waiting() {
    let feed = begun();
    feed.push(row(0, 1));
    feed.push(row(1, 2));
    feed.push(row(0, 3));
    let taken = feed.take(&held(), &[0, 1], 9, |row| row.shard == 1);
    assert_eq!(ids(&taken.rows), [2]);
    assert_eq!(ids(&feed.take(&held(), &[0, 1], 9, |_| true).rows), [1, 3]);
}

#[test]
fn what_another_instance_may_send_is_left_to_it() {
    let feed = begun();
    feed.push(row(5, 1));
    feed.push(row(0, 2));
    feed.mark(true, mark(20));
    let taken = feed.take(&held(), &[0], 9, |_| true);
    assert_eq!(ids(&taken.rows), [2]);
    feed.finish(taken.places);
    assert_eq!(feed.table_ends_at(), Some(20));
    assert!(feed.is_empty());
}

#[test]
fn a_pause_leaves_everything_to_the_table() {
    let feed = begun();
    (1..=3).for_each(|id| feed.push(row(0, id)));
    feed.mark(true, mark(20));
    feed.leave_all();
    assert_eq!(feed.table_ends_at(), Some(20));
}

#[test]
fn what_comes_before_the_first_mark_may_have_been_sent() {
    let feed = LogFeed::default();
    feed.attach();
    feed.push(row(0, 1));
    feed.mark(false, mark(5));
    feed.push(row(0, 2));
    feed.mark(true, mark(6));
    feed.push(row(0, 3));
    assert!(feed.take(&held(), &[0], 1, |_| true).may_be_sent);
    assert!(feed.take(&held(), &[0], 1, |_| true).may_be_sent);
    assert!(!feed.take(&held(), &[0], 1, |_| true).may_be_sent);
}

#[test]
fn an_earlier_session_has_no_say() {
    let feed = begun();
    feed.push(row(0, 1));
    let taken = feed.take(&held(), &[0], 1, |_| true);
    feed.attach();
    feed.push(row(0, 2));
    feed.mark(true, mark(20));
    feed.finish(taken.places.clone());
    feed.put_back(taken.rows.into_iter().zip(taken.places));
    assert_eq!(feed.table_ends_at(), Some(0));
    let taken = feed.take(&held(), &[0], 9, |_| true);
    assert_eq!(ids(&taken.rows), [2]);
    feed.finish(taken.places);
    assert_eq!(feed.table_ends_at(), Some(20));
}

#[test]
fn it_is_bounded() {
    let feed = begun();
    let mut pushed = 0;
    while !feed.is_full() {
        pushed += 1;
        feed.push(row(0, pushed));
    }
    assert!(pushed <= 20_000, "{pushed}");
    feed.take(&held(), &[0], 1, |_| true);
    assert!(!feed.is_full());
}
