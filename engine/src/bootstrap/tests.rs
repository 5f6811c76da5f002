#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::copy_state;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{
    consumer, consumer_partition, copy_state as copy_table, outbox_event, outbox_open,
};
use diesel::prelude::*;
use diesel::sql_query;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use stockloop_tests::outbox::change_open;

use super::{Bootstrap, Fillable, Filling, NewFilling, Outcome, State, find, insert, list};
use crate::resync::{self, Resync};
use crate::verify::tests::fixture::{Items, Shelf, run};
use crate::verify::wire::{KeySet, KeyState, RangeDigest, ReplicaInfo, Terms};
use crate::verify::{self, Local, Range, Side, SideError};

on_every_database!(std::convert::identity =>
    a_new_copy_is_filled_while_changes_flow,
    an_empty_owner_has_a_complete_copy_at_once,
    what_the_copy_has_already_is_not_sent_again,
    a_long_backlog_is_waited_for_before_it_is_verified,
    a_watched_copy_is_verified_once_it_is_where_others_are,
    what_differs_at_the_end_is_sent_again,
    a_copy_emptied_in_the_middle_is_filled_anew,
    what_waits_for_a_person_is_not_sent_again,
    a_consumer_that_is_away_is_waited_for,
    what_a_person_stops_a_person_starts_again,
    a_copy_that_does_not_know_is_complete,
);

/// The consumer, in its own database.
struct Copy {
    local: Local,
    is_away: AtomicBool,
    knows: bool,
}

impl Side for Copy {
    async fn info(&self) -> Result<ReplicaInfo, SideError> {
        if self.is_away.load(Ordering::Relaxed) {
            let (consumer, url, reason) = ("copy".into(), "http://copy".into(), "refused".into());
            let section = "peer".to_owned();
            return Err(SideError::Away { consumer, url, section, reason });
        }
        if self.knows { self.local.copy_info().await } else { self.local.info().await }
    }

    async fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> Result<Vec<RangeDigest>, SideError> {
        self.local.digests(terms, ranges, at_most).await
    }

    async fn states(&self, terms: &Terms, of: &KeySet) -> Result<(Vec<KeyState>, bool), SideError> {
        self.local.states(terms, of).await
    }
}

impl Fillable for Copy {
    fn consumer(&self) -> &'static str {
        "copy"
    }

    async fn complete(&self, copy_id: &str) -> Result<bool, SideError> {
        let id = copy_id.to_owned();
        let now = verify::tests::fixture::START;
        Ok(run(&self.local.db, move |conn| copy_state::complete(conn, &id, now, "owner")).await)
    }
}

/// An owner and a copy that does not have all of it.
struct Pair {
    shelf: Shelf,
    copy: Copy,
}

impl Pair {
    async fn made(database: TestDatabase) -> Self {
        let shelf = Shelf::made(database).await;
        let copy = Copy { local: shelf.consumer(), is_away: AtomicBool::new(false), knows: true };
        let pair = Self { shelf, copy };
        pair.another_copy("first").await;
        pair
    }

    /// The copy's database is a new one.
    async fn another_copy(&self, id: &str) {
        let id = id.to_owned();
        run(&self.shelf.copy, move |conn| {
            on!(&mut *conn, c => sql_query("DELETE FROM item").execute(c))?;
            on!(&mut *conn, c => diesel::delete(copy_table::table).execute(c))?;
            let row = copy_table::copy_id.eq(id);
            on!(conn, c => diesel::insert_into(copy_table::table).values(row).execute(c))
        })
        .await;
    }

    /// Keys that the owner alone has.
    async fn stock(&self, count: usize) {
        self.shelf.fill((0..count).map(|n| format!("K{n:05}")).collect()).await;
        self.shelf.damage("DELETE FROM item").await;
    }

    /// One step by an instance that knows nothing of the steps before.
    async fn step(&self) -> Outcome {
        let owner = Arc::new(Items);
        let shelf = &self.shelf;
        Bootstrap::new(&shelf.owner, &shelf.verifier.env, owner, "")
            .run_once(&self.copy)
            .await
            .unwrap()
    }

    /// One step of each of the jobs that work for a filling, each by a new instance.
    async fn turn(&self) -> Outcome {
        let outcome = self.step().await;
        let (shelf, owner) = (&self.shelf, Arc::new(Items));
        let (db, env) = (&shelf.owner, &shelf.verifier.env);
        let resync = Resync::default();
        resync.run_once(db, env, &shelf.outbox, owner, "copy").await.unwrap();
        shelf.verifier.run_once(|_| Some(&self.copy)).await.unwrap();
        shelf.clock.advance(Duration::from_millis(500));
        outcome
    }

    /// All that is on its way arrives.
    async fn arrive(&self) -> usize {
        self.arrive_but(EventId::NIL).await
    }

    /// All but one event.
    async fn arrive_but(&self, held: EventId) -> usize {
        let open: Vec<(EventId, String)> = run(&self.shelf.owner, |conn| {
            on!(conn, c => outbox_open::table
                .inner_join(outbox_event::table.on(outbox_event::id.eq(outbox_open::id)))
                .order(outbox_open::id)
                .select((outbox_open::id, outbox_event::key))
                .load(c))
        })
        .await;
        let open: Vec<_> = open.into_iter().filter(|(event, _)| *event != held).collect();
        let count = open.len();
        for (event, key) in open {
            self.shelf.deliver(&key).await;
            self.shelf.settle(event).await;
        }
        count
    }

    async fn open_events(&self) -> Vec<EventId> {
        run(&self.shelf.owner, |conn| {
            on!(conn, c => outbox_open::table.order(outbox_open::id).select(outbox_open::id).load(c))
        })
        .await
    }

    async fn newest(&self) -> Filling {
        let rows = run(&self.shelf.owner, |conn| list(conn, i64::MAX, 1)).await;
        rows.into_iter().next().unwrap()
    }

    async fn is_complete(&self) -> bool {
        let state = run(&self.shelf.copy, copy_state::read).await;
        state.unwrap().is_complete()
    }

    /// Turns the loop until the newest filling has ended.
    async fn until_ended(&self) -> Filling {
        for _ in 0..500 {
            self.turn().await;
            self.arrive().await;
            let row = self.newest().await;
            if !row.state.is_open() {
                return row;
            }
            assert!(!self.is_complete().await, "it is complete before it is told in {row:?}");
        }
        panic!("it does not end: {:?}", self.newest().await);
    }

    async fn events(&self) -> i64 {
        let count = |conn: &mut Conn| on!(conn, c => outbox_event::table.count().get_result(c));
        run(&self.shelf.owner, count).await
    }
}

async fn a_new_copy_is_filled_while_changes_flow(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(1_200).await;
    let mut states = Vec::new();
    for turn in 0..500 {
        pair.turn().await;
        let row = pair.newest().await;
        if states.last() != Some(&row.state) {
            states.push(row.state);
        }
        if turn < 6 {
            pair.shelf.change(&format!("K{:05}", turn * 200), "changed", turn == 2).await;
            pair.shelf.change(&format!("NEW{turn}"), "new", false).await;
        }
        if turn > 3 {
            pair.arrive().await;
        }
        if !row.state.is_open() {
            break;
        }
    }
    assert_eq!(
        states,
        [
            State::Counting,
            State::Filling,
            State::Arriving,
            State::Verifying,
            State::Telling,
            State::Done
        ]
    );
    assert!(pair.is_complete().await);
    let row = pair.newest().await;
    assert!(row.expected >= 1_200 && row.done >= row.expected, "{row:?}");
    let seq = pair.shelf.ask(None).await;
    let verified = pair.shelf.until_ended(seq, &pair.copy).await;
    assert_eq!((verified.state, verified.keys), (verify::State::Equal, 1_206));
    assert_eq!(pair.step().await, Outcome::default(), "there is nothing more to do");
}

async fn an_empty_owner_has_a_complete_copy_at_once(database: TestDatabase) {
    let pair = Pair::made(database).await;
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.expected, row.job), (State::Done, 0, None));
    assert!(pair.is_complete().await);
    assert_eq!(pair.events().await, 0);
}

async fn what_the_copy_has_already_is_not_sent_again(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.shelf.fill((0..700).map(|n| format!("K{n:05}")).collect()).await;
    pair.shelf.damage("DELETE FROM item WHERE key >= 'K00690'").await;
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.rounds), (State::Done, 1));
    assert!(pair.is_complete().await);
    assert_eq!(pair.events().await, 10, "no more than what was missing");
}

/// However long it takes: what is on its way would only be sent again, and at last be told to people as a difference.
async fn a_long_backlog_is_waited_for_before_it_is_verified(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(1_200).await;
    while pair.newest_state().await != Some(State::Arriving) {
        pair.turn().await;
    }
    for _ in 0..10 {
        pair.shelf.clock.advance(Duration::from_secs(600));
        pair.turn().await;
        let row = pair.newest().await;
        assert_eq!((row.state, row.verification), (State::Arriving, None), "{row:?}");
        let reason = row.reason.unwrap();
        assert!(reason.starts_with("more than 1000 events from "), "{reason}");
        assert!(reason.ends_with("wait to be sent, or for the answer of copy"), "{reason}");
    }
    let sent = pair.open_events().await;
    pair.arrive_but(sent[7]).await;
    run(&pair.shelf.owner, {
        let event = sent[7];
        move |conn| change_open(conn, event, |open| (open.status, open.attempt) = (0, 1))
    })
    .await;
    pair.turn().await;
    let reason = pair.newest().await.reason.unwrap();
    assert!(
        reason.starts_with(&format!("1 event from {}", sent[7])),
        "it is tried again: {reason}"
    );
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.rounds), (State::Done, 0));
}

async fn a_watched_copy_is_verified_once_it_is_where_others_are(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(1_200).await;
    run(&pair.shelf.owner, |conn| {
        use {consumer as c, consumer_partition as p};
        let names = [("other", true), ("copy", false)];
        let row = |(name, required): (&'static str, bool)| {
            let by = (c::registered_us.eq(0), c::registered_by.eq("anna"));
            (c::name.eq(name), c::required.eq(required), by)
        };
        let rows: Vec<_> = names.into_iter().map(row).collect();
        on!(&mut *conn, c => diesel::insert_into(consumer::table).values(rows).execute(c))?;
        // In the second partition there never was anything for it.
        let at = [("other", 0, Some(9)), ("copy", 0, Some(4)), ("other", 1, Some(3))];
        let row = |(name, partition, offset): (&'static str, i32, Option<i64>)| {
            let place = (p::topic.eq(""), p::partition.eq(partition), p::consumer.eq(name));
            (place, p::last_ack_us.eq(3), p::acked_offset.eq(offset), p::shown_offset.eq(offset))
        };
        let rows: Vec<_> = at.into_iter().map(row).collect();
        on!(conn, c => diesel::insert_into(p::table).values(rows).execute(c))
    })
    .await;
    while pair.newest_state().await != Some(State::Arriving) {
        pair.turn().await;
    }
    pair.arrive().await;
    pair.turn().await;
    let row = pair.newest().await;
    let reason = "copy is 9 messages behind the others, in 2 partitions";
    assert_eq!((row.state, row.reason.as_deref()), (State::Arriving, Some(reason)));
    pair.shelf.clock.advance(Duration::from_secs(600));
    pair.turn().await;
    let row = pair.newest().await;
    let reason = "copy is 5 messages behind the others, in 1 partitions";
    assert_eq!((row.state, row.reason.as_deref()), (State::Arriving, Some(reason)));
    run(&pair.shelf.owner, |conn| {
        use consumer_partition as p;
        let own = p::table.filter(p::consumer.eq("copy"));
        let reached = (p::acked_offset.eq(Some(9)), p::shown_offset.eq(Some(9)));
        on!(conn, c => diesel::update(own).set(reached).execute(c))
    })
    .await;
    pair.turn().await;
    assert_eq!(pair.newest().await.state, State::Verifying);
}

async fn what_differs_at_the_end_is_sent_again(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(600).await;
    while pair.newest_state().await != Some(State::Verifying) {
        pair.turn().await;
        pair.arrive().await;
    }
    pair.shelf.damage("DELETE FROM item WHERE key < 'K00003'").await;
    pair.shelf.damage("UPDATE item SET content = 'by hand' WHERE key = 'K00100'").await;
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.rounds), (State::Done, 1));
    assert!(pair.is_complete().await);
    let seq = pair.shelf.ask(None).await;
    let verified = pair.shelf.until_ended(seq, &pair.copy).await;
    assert_eq!(verified.state, verify::State::Equal);
}

async fn a_copy_emptied_in_the_middle_is_filled_anew(database: TestDatabase) {
    for state in [State::Filling, State::Arriving, State::Verifying, State::Telling] {
        let Some(database) = another(&database) else { return };
        let pair = Pair::made(database).await;
        pair.stock(1_200).await;
        while pair.newest_state().await != Some(state) {
            pair.turn().await;
            pair.arrive().await;
        }
        let first = pair.newest().await;
        pair.another_copy("second").await;
        pair.step().await;
        let ended = run(&pair.shelf.owner, move |conn| find(conn, first.seq)).await.unwrap();
        assert_eq!((ended.state, ended.ended_by), (State::Cancelled, None), "in {state:?}");
        assert!(ended.reason.unwrap().contains("second"));
        assert!(!pair.is_complete().await, "in {state:?}");
        pair.step().await;
        let row = pair.until_ended().await;
        assert!(row.seq > first.seq && row.state == State::Done, "in {state:?}: {row:?}");
        assert_eq!(row.copy_id.as_deref(), Some("second"));
        assert!(pair.is_complete().await);
    }
}

/// Each round would give the person one event more.
async fn what_waits_for_a_person_is_not_sent_again(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(3).await;
    let event = pair.shelf.change("HELD", "in quarantine", false).await;
    pair.shelf.give_up(event).await;
    for _ in 0..100 {
        pair.turn().await;
        let (open, count) = (pair.events().await, pair.arrive_but(event).await);
        assert!(open <= 4 && count <= 3, "{open} events");
    }
    let row = pair.newest().await;
    assert!(row.state.is_open() && row.rounds > 2, "{row:?}");
    assert!(row.reason.unwrap().contains("wait for a person"));
    pair.shelf.deliver("HELD").await;
    pair.shelf.settle(event).await;
    assert_eq!(pair.until_ended().await.state, State::Done);
    assert_eq!(pair.events().await, 4);
}

async fn a_consumer_that_is_away_is_waited_for(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(600).await;
    pair.copy.is_away.store(true, Ordering::Relaxed);
    assert!(pair.turn().await.away);
    pair.copy.is_away.store(false, Ordering::Relaxed);
    while pair.newest_state().await != Some(State::Telling) {
        pair.turn().await;
        pair.arrive().await;
    }
    pair.copy.is_away.store(true, Ordering::Relaxed);
    pair.turn().await;
    let row = pair.newest().await;
    assert_eq!(row.state, State::Telling);
    assert!(row.reason.unwrap().contains("can't be asked"));
    pair.copy.is_away.store(false, Ordering::Relaxed);
    assert_eq!(pair.until_ended().await.state, State::Done);
}

async fn what_a_person_stops_a_person_starts_again(database: TestDatabase) {
    let pair = Pair::made(database).await;
    pair.stock(1_200).await;
    pair.turn().await;
    while pair.newest().await.job.is_none() {
        pair.turn().await;
    }
    let (job, now) = (pair.newest().await.job.unwrap(), pair.shelf.clock_now());
    run(&pair.shelf.owner, move |conn| resync::cancel(conn, job, now, "anna")).await;
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.ended_by.as_deref()), (State::Cancelled, Some("anna")));
    assert_eq!(pair.step().await, Outcome::default(), "nobody asked for it");
    let new = NewFilling {
        consumer: "copy".to_owned(),
        copy_id: None,
        state: State::Counting,
        due_us: now,
        created_us: now,
        created_by: "anna".to_owned(),
        created_via: "session".to_owned(),
    };
    let again = new.clone();
    let seq = run(&pair.shelf.owner, move |conn| insert(conn, &new)).await;
    assert!(seq.is_some());
    assert_eq!(run(&pair.shelf.owner, move |conn| insert(conn, &again)).await, None);
    let row = pair.until_ended().await;
    assert_eq!((row.state, row.copy_id.as_deref()), (State::Done, Some("first")));
}

async fn a_copy_that_does_not_know_is_complete(database: TestDatabase) {
    let mut pair = Pair::made(database).await;
    pair.copy.knows = false;
    pair.stock(3).await;
    assert_eq!(pair.step().await, Outcome::default());
}

impl Pair {
    async fn newest_state(&self) -> Option<State> {
        let rows = run(&self.shelf.owner, |conn| list(conn, i64::MAX, 1)).await;
        rows.first().map(|row| row.state)
    }
}

/// Another database of the same kind.
fn another(database: &TestDatabase) -> Option<TestDatabase> {
    match database.url().starts_with("sqlite:") {
        true => Some(TestDatabase::sqlite()),
        false => TestDatabase::postgres(),
    }
}
