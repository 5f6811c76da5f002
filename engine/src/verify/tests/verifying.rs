use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{consumer, consumer_partition, outbox_answer, outbox_event, outbox_settled};
use diesel::prelude::*;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use stockloop_tests::outbox::{change_open, remove_open};

use super::fixture::{Shelf, Strange, only, run};
use crate::consumers::{self, NewConsumer, Role};
use crate::verify::wire::{PROTOCOL, Terms};
use crate::verify::{Finding, MAX_DIFFERENCES, Range, Side, State, cancel};

on_every_database!(std::convert::identity =>
    every_kind_of_difference_is_found,
    what_is_on_its_way_is_no_difference,
    what_gave_up_is_one,
    what_only_another_owes_is_not_on_its_way,
    what_a_watched_one_has_not_reached_is_on_its_way,
    where_a_newly_watched_one_begins_is_not_what_it_has,
    an_open_event_behind_many_newer_ones_is_not_overlooked,
    hostile_keys_are_compared_as_any,
    what_only_the_copy_has_is_listed_in_bounds,
    what_the_copy_has_more_is_not_read_for_a_digest,
    a_step_that_is_cut_counts_no_key_twice,
    a_copy_that_lies_is_found_out_or_not_believed,
    a_copy_that_is_away_is_unknown,
    another_instance_goes_on,
    a_cancelled_one_writes_nothing_more,
    the_differences_of_an_earlier_one_are_looked_at_again,
);

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("K{n:05}")).collect()
}

async fn every_kind_of_difference_is_found(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(3_000)).await;
    shelf.arrived("REMOVED", "x").await;
    let event = shelf.change("REMOVED", "x", true).await;
    shelf.settle(event).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 3_001, 1));
    shelf.deliver("REMOVED").await;

    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Equal, 3_001, 0));

    shelf
        .damage(
            "DELETE FROM item WHERE key IN ('K00000', 'K02999', 'REMOVED'); \
             UPDATE item SET content = 'by hand' WHERE key = 'K01500'; \
             UPDATE item SET version = 0 WHERE key = 'K00777'; \
             UPDATE item SET version = 9 WHERE key = 'K00778'; \
             UPDATE item SET removed = TRUE WHERE key = 'K00779'; \
             UPDATE item SET epoch = 2 WHERE key = 'K02500'; \
             INSERT INTO item VALUES ('', 1, 1, FALSE, '', 0), ('A', 1, 1, FALSE, '', 0), ('K00779x', 1, 1, FALSE, '', 0), ('Z', 1, 1, FALSE, '', 0)",
        )
        .await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 3_001, 12));
    let found = shelf.found(seq).await;
    let found: Vec<(&str, Finding)> = found.iter().map(|(key, f)| (key.as_str(), *f)).collect();
    assert_eq!(
        found,
        [
            ("", Finding::Unknown),
            ("A", Finding::Unknown),
            ("K00000", Finding::Missing),
            ("K00777", Finding::Older),
            ("K00778", Finding::Newer),
            ("K00779", Finding::Content),
            ("K00779x", Finding::Unknown),
            ("K01500", Finding::Content),
            ("K02500", Finding::Newer),
            ("K02999", Finding::Missing),
            ("REMOVED", Finding::Missing),
            ("Z", Finding::Unknown),
        ]
    );
}

async fn what_is_on_its_way_is_no_difference(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(50)).await;
    let event = shelf.change("K00007", "new", false).await;
    let seq = shelf.ask(None).await;
    shelf.verifier.run_once(only(&shelf.consumer())).await.unwrap();
    assert_eq!(shelf.row(seq).await.state, State::LookingAgain);
    shelf.deliver("K00007").await;
    shelf.settle(event).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences, row.waiting), (State::Equal, 0, 0));

    shelf.change("K00008", "new", false).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences, row.waiting), (State::Unknown, 0, 1));
    assert!(
        row.reason.unwrap().contains("1 keys wait"),
        "nothing is called equal that is only on its way"
    );
    assert_eq!(shelf.found(seq).await, [("K00008".to_owned(), Finding::Waiting)]);
}

async fn what_gave_up_is_one(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(5)).await;
    let event = shelf.change("K00003", "new", false).await;
    shelf.give_up(event).await;
    let seq = shelf.ask(None).await;
    assert_eq!(shelf.until_ended(seq, &shelf.consumer()).await.state, State::Different);
    assert_eq!(shelf.found(seq).await, [("K00003".to_owned(), Finding::Older)]);
}

async fn register(shelf: &Shelf, name: &'static str, required: bool) {
    use consumer as c;
    let row = (
        c::name.eq(name),
        c::required.eq(required),
        c::registered_us.eq(0),
        c::registered_by.eq("anna"),
    );
    run(
        &shelf.owner,
        move |conn| on!(conn, c => diesel::insert_into(consumer::table).values(row).execute(c)),
    )
    .await;
}

fn settled_by_another(conn: &mut Conn, event: EventId) -> QueryResult<()> {
    use outbox_settled as s;
    remove_open(conn, event)?;
    let settled = (
        s::id.eq(event),
        s::outcome.eq(0_i16),
        s::attempt.eq(1),
        s::partition.eq(Some(0)),
        s::settled_us.eq(3),
        s::consumer.eq("other"),
    );
    on!(conn, c => diesel::insert_into(s::table).values(settled).execute(c).map(drop))
}

fn sent(conn: &mut Conn, event: EventId) -> QueryResult<()> {
    change_open(conn, event, |open| {
        (open.status, open.attempt) = (1, 1);
        (open.partition, open.sent_us) = (Some(0), Some(Timestamp::from_micros(1)));
    })
}

async fn what_only_another_owes_is_not_on_its_way(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(5)).await;
    register(&shelf, "copy", true).await;
    register(&shelf, "other", true).await;
    let event = shelf.change("K00003", "new", false).await;
    run(&shelf.owner, move |conn| sent(conn, event)).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.waiting), (State::Unknown, 1), "both owe an answer");

    // The copy has answered, and somebody works in it by hand; the other one owes its answer still.
    run(&shelf.owner, move |conn| {
        use outbox_answer as a;
        let row = (
            a::event_id.eq(event),
            a::consumer.eq("copy"),
            a::outcome.eq(0_i16),
            a::attempt.eq(1),
            a::processed_us.eq(2),
        );
        on!(conn, c => diesel::insert_into(a::table).values(row).execute(c))
    })
    .await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences), (State::Different, 1));
}

async fn what_a_watched_one_has_not_reached_is_on_its_way(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(5)).await;
    register(&shelf, "other", true).await;
    register(&shelf, "copy", false).await;
    let event = shelf.change("K00003", "new", false).await;
    run(&shelf.owner, move |conn| {
        use consumer_partition as p;
        settled_by_another(conn, event)?;
        let at = |name: &'static str, offset: i64| {
            (
                p::topic.eq(""),
                p::partition.eq(0),
                p::consumer.eq(name),
                p::last_ack_us.eq(3),
                p::acked_offset.eq(Some(offset)),
                p::shown_offset.eq(Some(offset)),
            )
        };
        let rows = vec![at("other", 7), at("copy", 6)];
        on!(conn, c => diesel::insert_into(p::table).values(rows).execute(c))
    })
    .await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.waiting), (State::Unknown, 1), "it has not come so far");

    run(&shelf.owner, |conn| {
        use consumer_partition as p;
        let reached = (p::acked_offset.eq(Some(7)), p::shown_offset.eq(Some(7)));
        on!(conn, c => diesel::update(p::table).set(reached).execute(c))
    })
    .await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences), (State::Different, 1));
}

/// It is taken to be where others are, so that nothing of before is expected of it; that proves nothing of its copy.
async fn where_a_newly_watched_one_begins_is_not_what_it_has(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(5)).await;
    register(&shelf, "other", true).await;
    let (event, now) = (shelf.change("K00003", "new", false).await, shelf.clock_now());
    run(&shelf.owner, move |conn| {
        use consumer_partition as p;
        settled_by_another(conn, event)?;
        let at = (
            p::topic.eq(""),
            p::partition.eq(0),
            p::consumer.eq("other"),
            p::last_ack_us.eq(now),
            p::acked_offset.eq(Some(7)),
            p::shown_offset.eq(Some(7)),
        );
        on!(&mut *conn, c => diesel::insert_into(p::table).values(at).execute(c))?;
        let new = NewConsumer { name: "copy", role: Role::Watched, since: event, reason: None };
        let registered = consumers::register(conn, &new, Timestamp::from_micros(4), "anna");
        registered.map(drop).map_err(|error| panic!("{error}"))
    })
    .await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.waiting), (State::Unknown, 1), "it may still come to the copy");

    // All is quiet from here on, and nothing says that it has anything still to come.
    shelf.clock.advance(Duration::from_secs(60));
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences), (State::Different, 1));
}

/// An instance whose clock runs ahead gives its events the newer ids, also where another one's has the newest version.
async fn an_open_event_behind_many_newer_ones_is_not_overlooked(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(5)).await;
    let of = [("K00001", 20), ("K00003", 300)];
    let open = [
        shelf.change(of[0].0, "by the one behind", false).await,
        shelf.change(of[1].0, "by the one behind", false).await,
    ];
    let env = shelf.verifier.env.clone();
    shelf.clock.advance(Duration::from_secs(60));
    for (key, newer) in of {
        let ids: Vec<EventId> = (0..newer).map(|_| env.event_id()).collect();
        run(&shelf.owner, move |conn| {
            use outbox_event as e;
            let row = |id: &EventId| {
                let place = (e::id.eq(*id), e::key.eq(key), e::version.eq(1), e::epoch.eq(1));
                let what = (e::kind.eq(0_i16), e::event_type.eq("shelf.changed"));
                (place, what, e::payload.eq("{}"), e::created_us.eq(1))
            };
            let rows: Vec<_> = ids.iter().map(row).collect();
            on!(conn, c => diesel::insert_into(e::table).values(rows).execute(c))
        })
        .await;
    }
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.waiting), (State::Unknown, 2));
    shelf.settle(open[0]).await;
    shelf.settle(open[1]).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.differences, row.waiting), (2, 0), "whatever was sent again hides nothing");
}

/// Long ones, equal at their beginnings, with characters that mean something elsewhere.
async fn hostile_keys_are_compared_as_any(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    let long = "x".repeat(900);
    let mut keys: Vec<String> = (0..600).map(|n| format!("{long}{n:04}")).collect();
    keys.extend(["%", "_", "'", "\"", "\\", "😀", "\u{e9}", "e\u{301}", " "].map(str::to_owned));
    shelf.fill(keys).await;
    let at = format!("{long}0300");
    shelf.damage(&format!("DELETE FROM item WHERE key IN ('{at}', '😀', '%')")).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.keys, row.differences), (609, 3));
    let missing = |key: &str| (key.to_owned(), Finding::Missing);
    assert_eq!(shelf.found(seq).await, [missing("%"), missing(&at), missing("😀")]);
}

async fn what_only_the_copy_has_is_listed_in_bounds(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(2_345)).await;
    run(&shelf.owner, |conn| conn.batch_execute("DELETE FROM item")).await;
    let seq = shelf.ask(None).await;
    shelf.verifier.run_once(only(&shelf.consumer())).await.unwrap();
    assert_eq!(shelf.row(seq).await.differences, 500, "a step is cut where it has found many");
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.differences, row.cut), (State::Different, 2_345, false));
    assert!(row.differences < MAX_DIFFERENCES);
}

/// An owner that lost the end of its keys must not let the copy read all of its own for one digest.
async fn what_the_copy_has_more_is_not_read_for_a_digest(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(3_000)).await;
    let terms = Terms {
        protocol: PROTOCOL,
        collection: "items".to_owned(),
        fields: vec!["content".to_owned()],
        tombstones_since: Timestamp::default(),
    };
    let all = [Range::default()];
    let of = async |at_most: i64| shelf.consumer().digests(&terms, &all, at_most).await.unwrap();
    assert_eq!((of(2_999).await[0].rows, of(3_000).await[0].rows), (3_000, 3_000));
    assert_ne!(of(2_999).await, of(3_000).await, "the first one only says that there are more");
    run(&shelf.owner, |conn| conn.batch_execute("DELETE FROM item WHERE key >= 'K00010'")).await;
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 10, 2_990));
}

async fn a_step_that_is_cut_counts_no_key_twice(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(4_000)).await;
    // Equal ranges between and behind those that differ.
    shelf
        .damage("DELETE FROM item WHERE key < 'K00900' OR (key > 'K02000' AND key < 'K02300')")
        .await;
    shelf.verifier.size.store(100_000, std::sync::atomic::Ordering::Relaxed);
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 4_000, 1_199));
}

async fn a_copy_that_lies_is_found_out_or_not_believed(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(1_000)).await;
    shelf.damage("DELETE FROM item WHERE key = 'K00500'").await;
    // It is never told what the owner's digests are, so it can't give them back.
    let constant = Strange {
        inner: shelf.consumer(),
        answer: |_: &mut Vec<_>, digests: &mut Vec<crate::verify::wire::RangeDigest>| {
            digests.iter_mut().for_each(|one| one.digest = "0".repeat(64));
        },
        is_away: AtomicBool::new(false),
    };
    let seq = shelf.ask(None).await;
    let row = shelf.until_ended(seq, &constant).await;
    assert_eq!((row.state, row.differences), (State::Different, 1));
}

async fn a_copy_that_is_away_is_unknown(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(10)).await;
    let away = Strange {
        inner: shelf.consumer(),
        answer: |_: &mut Vec<_>, _: &mut Vec<_>| {},
        is_away: AtomicBool::new(true),
    };
    let seq = shelf.ask(None).await;
    shelf.verifier.run_once(only(&away)).await.unwrap();
    assert!(shelf.row(seq).await.state.is_open(), "it may come back");
    let row = shelf.until_ended(seq, &away).await;
    assert_eq!(row.state, State::Unknown);
    assert!(row.reason.unwrap().contains("connection refused"));
    let seq = shelf.ask(None).await;
    assert_eq!(shelf.until_ended(seq, &shelf.consumer()).await.state, State::Equal);
}

async fn another_instance_goes_on(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(1_500)).await;
    shelf.damage("DELETE FROM item WHERE key IN ('K00001', 'K01499')").await;
    let other = crate::verify::Verifier { holder: "other".to_owned(), ..shelf.verifier.clone() };
    let seq = shelf.ask(None).await;
    other.run_once(only(&shelf.consumer())).await.unwrap();
    let step = shelf.verifier.run_once(only(&shelf.consumer())).await.unwrap();
    assert!(!step.worked, "the other one holds it");
    run(&shelf.owner, |conn| conn.batch_execute("UPDATE verification SET held_until_us = 0")).await;
    let row = shelf.until_ended(seq, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 1_500, 2));
}

async fn a_cancelled_one_writes_nothing_more(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(1_500)).await;
    let seq = shelf.ask(None).await;
    shelf.verifier.run_once(only(&shelf.consumer())).await.unwrap();
    let now = shelf.clock_now();
    assert!(run(&shelf.owner, move |conn| cancel(conn, seq, now, "anna")).await);
    let step = shelf.verifier.run_once(only(&shelf.consumer())).await.unwrap();
    assert!(!step.worked);
    let row = shelf.row(seq).await;
    assert_eq!((row.state, row.ended_by.as_deref()), (State::Cancelled, Some("anna")));
}

async fn the_differences_of_an_earlier_one_are_looked_at_again(database: TestDatabase) {
    let shelf = Shelf::made(database).await;
    shelf.fill(keys(700)).await;
    shelf.damage("DELETE FROM item").await;
    let seq = shelf.ask(None).await;
    assert_eq!(shelf.until_ended(seq, &shelf.consumer()).await.differences, 700);
    for n in 0..699 {
        shelf.deliver(&format!("K{n:05}")).await;
    }
    shelf.clock.advance(Duration::from_secs(1));
    let again = shelf.ask(Some(seq)).await;
    let row = shelf.until_ended(again, &shelf.consumer()).await;
    assert_eq!((row.state, row.keys, row.differences), (State::Different, 700, 1));
    assert_eq!(shelf.found(again).await, [("K00699".to_owned(), Finding::Missing)]);
}
