//! The feed by itself: what is passed when, and what is left to the table. What a real log brings is in [`stream`] and in
//! the suites.

mod stream;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::clock::Timestamp;
use common::ids::EventId;
use uuid::Uuid;

use super::super::store::DueRow;
use super::decode::whole_number;
use super::feed::{Ended, LogFeed, Mark, TablesShare};

/// A transaction after all marks.
const NOW: i64 = 1 << 30;

fn row(shard: i16, id: u128) -> DueRow {
    DueRow {
        id: EventId::from_uuid(Uuid::from_u128(id)),
        shard,
        attempt: 0,
        size: 2,
        tx: NOW,
        event_type: "test.changed".to_owned(),
        key: format!("key-{shard}"),
        epoch: 1,
        version: 1,
        payload: "{}".to_owned(),
        traceparent: None,
        created_us: Timestamp::default(),
    }
}

/// What the transaction with this number appended.
fn by(transaction: u16) -> DueRow {
    DueRow { tx: i64::from(transaction), ..row(0, u128::from(transaction)) }
}

/// A mark when all transactions below `xmax` had ended.
fn mark(xmax: i64) -> Mark {
    Mark { lsn: xmax.unsigned_abs() * 10, before: ended(xmax) }
}

fn ended(xmax: i64) -> Ended {
    Ended { xmin: xmax, xmax, running: Vec::new() }
}

/// A log that is followed.
fn begun() -> LogFeed {
    let feed = LogFeed::default();
    follow(&feed, 1);
    feed
}

/// The first mark of a session comes, and the table ends where all transactions below `xmax` had ended.
fn follow(feed: &LogFeed, xmax: i64) {
    feed.mark(mark(xmax), Instant::now());
    assert!(feed.follow(ready(feed), &ended(xmax)));
}

/// The session in which the log waits to be followed.
fn ready(feed: &LogFeed) -> u64 {
    match feed.of_the_table() {
        TablesShare::Last(session) => session,
        other => {
            assert_eq!(other, TablesShare::Last(0), "it is ready");
            0
        }
    }
}

/// What the table has is what these had appended.
fn tables(xmax: i64) -> TablesShare {
    TablesShare::Of(ended(xmax))
}

fn held() -> BTreeMap<i16, i64> {
    BTreeMap::from([(0, 1), (1, 1), (2, 1)])
}

fn ids(rows: &[DueRow]) -> Vec<u128> {
    rows.iter().map(|row| row.id.uuid().as_u128()).collect()
}

#[test]
fn a_snapshot_is_read_as_it_is_written() {
    let with = Ended { xmin: 10, xmax: 20, running: vec![10, 14] };
    assert_eq!("10:20:10,14".parse(), Ok(with));
    assert_eq!("7:7:".parse(), Ok(ended(7)));
    for odd in ["", "7", "7:7", "7:7:x", "a:7:"] {
        assert_eq!(odd.parse::<Ended>(), Err(()), "{odd}");
    }
}

#[test]
fn the_table_has_everything_until_the_log_is_followed() {
    let feed = LogFeed::default();
    feed.push([row(0, 1)]);
    assert_eq!((feed.of_the_table(), feed.is_empty()), (TablesShare::All, true));
    follow(&feed, 7);
    assert_eq!(feed.of_the_table(), tables(7));
    feed.push([row(0, 2)]);
    feed.stop_following();
    assert_eq!((feed.of_the_table(), feed.is_empty()), (TablesShare::All, true));
}

/// A mark may have been on its way for long, and the table was read meanwhile.
#[test]
fn the_log_begins_where_the_table_ends() {
    let feed = LogFeed::default();
    feed.mark(mark(700), Instant::now());
    let session = ready(&feed);
    feed.push((701..=709).map(by));
    assert!(!feed.is_followed());
    let ended = Ended { xmin: 703, xmax: 706, running: vec![703, 705] };
    assert!(!feed.follow(session + 1, &ended), "another session");
    assert!(feed.follow(session, &ended));
    assert_eq!(feed.of_the_table(), TablesShare::Of(ended.clone()));
    feed.push((704..=711).map(by));
    let taken = feed.take(&[0], 99, |_| true);
    assert_eq!(ids(&taken.rows), [703, 705, 706, 707, 708, 709, 705, 706, 707, 708, 709, 710, 711]);
    // A mark that was written before that snapshot widens nothing.
    feed.finish(taken.places);
    feed.mark(mark(702), Instant::now());
    assert_eq!(feed.of_the_table(), TablesShare::Of(ended));
    feed.mark(mark(712), Instant::now());
    assert_eq!(feed.of_the_table(), tables(712));
}

#[test]
fn the_numbers_of_the_log_are_those_near_the_last_mark() {
    let near = (7 << 32) + 2;
    for (lower, whole) in [
        (u32::MAX - 1, near - 4),
        (u32::MAX, near - 3),
        (0, near - 2),
        (2, near),
        (3, near + 1),
        (1 << 31, near + (1 << 31) - 2),
    ] {
        assert_eq!(whole_number(lower, near), whole, "{lower}");
    }
    for odd in [i64::MIN, i64::MAX, -1] {
        // It is no number of a transaction, but it is near, modulo 2^32.
        assert_eq!(whole_number(7, odd) as u32, 7, "{odd}");
    }
}

#[test]
fn a_mark_is_passed_when_all_before_it_is_dealt_with() {
    let feed = begun();
    feed.push((1..=3).map(|id| row(0, id)));
    feed.mark(mark(20), Instant::now());
    feed.push([row(1, 4)]);
    feed.mark(mark(30), Instant::now());
    assert_eq!((feed.of_the_table(), feed.passed(777)), (tables(1), 10));
    let first = feed.take(&[0, 1, 2], 2, |_| true);
    let second = feed.take(&[0, 1, 2], 9, |_| true);
    assert_eq!((ids(&first.rows), ids(&second.rows)), (vec![1, 2], vec![3, 4]));
    // The later ones are done first.
    feed.finish(second.places);
    assert_eq!(feed.of_the_table(), tables(1));
    feed.finish(first.places);
    assert_eq!((feed.of_the_table(), feed.passed(777)), (tables(30), 777));
}

#[test]
fn what_the_broker_did_not_take_waits_in_its_order() {
    let feed = begun();
    feed.push((1..=4).map(|id| row(0, id)));
    feed.mark(mark(20), Instant::now());
    let taken = feed.take(&[0], 3, |_| true);
    feed.finish(taken.places[..1].iter().copied());
    feed.put_back(taken.rows.into_iter().zip(taken.places).skip(1).collect::<Vec<_>>().into_iter());
    assert_eq!(feed.of_the_table(), tables(1));
    let again = feed.take(&[0], 9, |_| true);
    assert_eq!(ids(&again.rows), [2, 3, 4]);
    feed.finish(again.places);
    assert_eq!(feed.of_the_table(), tables(20));
}

#[test]
fn what_does_not_fit_waits_and_keeps_no_other_shard_waiting() {
    let feed = begun();
    feed.push([row(0, 1)]);
    feed.push([row(1, 2)]);
    feed.push([row(0, 3)]);
    let taken = feed.take(&[0, 1], 9, |row| row.shard == 1);
    assert_eq!(ids(&taken.rows), [2]);
    assert_eq!(ids(&feed.take(&[0, 1], 9, |_| true).rows), [1, 3]);
}

#[test]
fn what_another_instance_may_send_is_left_to_it() {
    let feed = begun();
    feed.push([row(5, 1)]);
    feed.push([row(0, 2)]);
    feed.mark(mark(20), Instant::now());
    feed.tend(&held(), Instant::now());
    let taken = feed.take(&[5, 0], 9, |_| true);
    assert_eq!(ids(&taken.rows), [2]);
    feed.finish(taken.places);
    assert_eq!(feed.of_the_table(), tables(20));
    assert!(feed.is_empty());
}

#[test]
fn a_pause_leaves_everything_to_the_table() {
    let feed = begun();
    feed.push((1..=3).map(|id| row(0, id)));
    feed.mark(mark(20), Instant::now());
    feed.leave_all();
    assert_eq!(feed.of_the_table(), tables(20));
}

#[test]
fn a_partition_that_is_blocked_keeps_no_mark_for_ever() {
    let feed = begun();
    feed.push([row(0, 1)]);
    feed.mark(mark(20), Instant::now());
    feed.push([row(0, 2)]);
    feed.tend(&held(), Instant::now());
    assert_eq!(feed.of_the_table(), tables(1), "it has just come");
    feed.tend(&held(), Instant::now() + Duration::from_secs(4));
    assert_eq!(feed.of_the_table(), tables(20));
    assert_eq!(ids(&feed.take(&[0], 9, |_| true).rows), [2], "only what the mark waits for");
}

#[test]
fn an_earlier_session_has_no_say() {
    let feed = begun();
    feed.push([row(0, 1)]);
    let taken = feed.take(&[0], 1, |_| true);
    feed.stop_following();
    follow(&feed, 2);
    feed.push([row(0, 2)]);
    feed.mark(mark(20), Instant::now());
    feed.finish(taken.places.clone());
    feed.put_back(taken.rows.into_iter().zip(taken.places));
    assert_eq!(feed.of_the_table(), tables(2));
    let taken = feed.take(&[0], 9, |_| true);
    assert_eq!(ids(&taken.rows), [2]);
    feed.finish(taken.places);
    assert_eq!(feed.of_the_table(), tables(20));
}

#[test]
fn it_is_bounded() {
    let feed = begun();
    let mut pushed = 0;
    while !feed.is_full() {
        pushed += 1;
        feed.push([row(0, pushed)]);
    }
    assert!(pushed <= 20_000, "{pushed}");
    feed.take(&[0], 1, |_| true);
    assert!(!feed.is_full());
}
