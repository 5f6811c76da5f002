//! How far a copy is, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod answerer;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::clock::ManualClock;
use common::db::ENGINE_MIGRATIONS;
use common::ids::EventId;
use common::on;
use common::schema::view_position as p;
use diesel::prelude::*;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use uuid::Uuid;

use super::*;
use crate::kafka::Verdict;

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

on_every_database!(
    ViewFixture::new =>
    a_batch_is_taken_once,
    what_makes_no_sense_is_kept,
    a_partition_is_read_from_where_the_database_is,
    a_topic_that_was_made_anew_begins_anew,
    a_topic_that_the_group_knows_no_more_begins_anew,
    a_database_that_goes_back_is_noticed,
    a_topic_that_is_copied_again_begins_later_than_the_other,
    how_far_it_is_behind_is_known_once_all_was_looked_at,
    whoever_waits_for_answers_gets_them,
    what_looks_repeated_is_not_answered_before_its_topic_is_looked_at,
    what_may_not_be_answered_yet_comes_again,
);

/// Remembers what it was given; a value of "bad" makes no sense.
#[derive(Default)]
struct Memory(Mutex<Vec<(Place, i32)>>);

impl View for Memory {
    fn write<'a>(
        &self,
        _conn: &mut Conn,
        _now: Timestamp,
        messages: &[ViewMessage<'a>],
    ) -> QueryResult<Vec<Refused<'a>>> {
        let is_bad =
            |message: &&ViewMessage<'a>| message.record.payload.as_deref() == Some(&b"bad"[..]);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(messages.iter().map(|message| (message.place, message.record.partition)));
        let bad = messages.iter().filter(is_bad);
        Ok(bad.map(|one| Refused { record: one.record, reason: "it is bad".to_owned() }).collect())
    }

    fn refusal(&self, record: &Record) -> Option<String> {
        (record.payload.as_deref() == Some(&b"bad"[..])).then(|| "it is bad".to_owned())
    }

    fn find(&self, _conn: &mut Conn, _key: &str) -> QueryResult<Option<ViewEntry>> {
        Ok(None)
    }
}

struct ViewFixture {
    copy: ViewCopy,
    memory: Arc<Memory>,
    clock: ManualClock,
    _database: TestDatabase,
}

impl ViewFixture {
    fn new(database: TestDatabase) -> Self {
        let (clock, memory) = (ManualClock::at(START), Arc::new(Memory::default()));
        let db = database.open(&[ENGINE_MIGRATIONS]);
        let env = Env::seeded(Arc::new(clock.clone()), 7);
        let copied = CopiedView { topic: "view".to_owned(), view: memory.clone() };
        let copy = ViewCopy::new(db, env, copied);
        Self { copy, memory, clock, _database: database }
    }

    /// The same view by another process, which may read it from another topic.
    fn copy_of(&self, topic: &str) -> ViewCopy {
        let copied = CopiedView { topic: topic.to_owned(), view: self.memory.clone() };
        ViewCopy::new(self.copy.db.clone(), self.copy.env.clone(), copied)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.copy.db.write::<_, DbError>(|conn| Ok(work(conn)?)).await.unwrap()
    }

    async fn take(&self, places: &[(i32, i64)]) -> Taken {
        let records = places.iter().map(|(partition, offset)| record(*partition, *offset, b"good"));
        self.copy.run_once(Arc::new(records.collect())).await.unwrap()
    }

    /// A look at partitions: what the group has committed, and where they end; returns what is read from where.
    async fn look(&self, ends: &[(i32, Option<i64>, i64)]) -> BTreeMap<i32, i64> {
        let committed = ends.iter().filter_map(|(partition, at, _)| Some((*partition, (*at)?)));
        let committed: BTreeMap<i32, i64> = committed.collect();
        let ends: BTreeMap<i32, i64> =
            ends.iter().map(|(partition, _, end)| (*partition, *end)).collect();
        let (copy, now) = (self.copy.clone(), self.copy.env.now());
        let placing = self.run(move |conn| copy.compare(conn, now, &committed, &ends)).await;
        self.copy.progress.placed(placing.reached);
        placing.seeks
    }

    async fn next_offsets(&self) -> Vec<(i32, i64)> {
        let positions = self.run(|conn| positions(conn, "view")).await;
        positions.iter().map(|one| (one.partition, one.next_offset)).collect()
    }

    /// The places of what was written, without their partitions.
    fn seen(&self) -> Vec<Place> {
        let seen = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(place, _)| *place).collect()
    }
}

fn record(partition: i32, offset: i64, payload: &[u8]) -> Record {
    Record {
        topic: "view".to_owned(),
        partition,
        offset,
        assignment: 0,
        timestamp: Some(START),
        key: Some(b"key".to_vec()),
        headers: Vec::new(),
        payload: Some(payload.to_vec()),
    }
}

/// A message that is an event of somebody who waits for answers, sent for the second time.
fn event(offset: i64, key: &str, payload: &[u8]) -> Record {
    let id = EventId::from_uuid(Uuid::from_u128(offset.unsigned_abs().into())).to_string();
    let headers = [("ce_id", id.as_str()), ("ce_source", "/shop"), ("stockloopattempt", "2")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into();
    Record { key: Some(key.as_bytes().to_vec()), headers, ..record(0, offset, payload) }
}

async fn whoever_waits_for_answers_gets_them(mut fixture: ViewFixture) {
    let batch = Arc::new(vec![
        event(0, "A", b"good"),
        event(1, "A", b"good"),
        event(2, "A", b"bad"),
        record(0, 3, b"good"),
        event(4, "B", &vec![b'x'; MAX_BYTES + 1]),
    ]);
    let taken = fixture.copy.run_once(Arc::clone(&batch)).await.unwrap();
    assert!(taken.answers.is_empty(), "nobody is answered by default");

    fixture.copy = fixture.copy_of("other").answering_as("order-service");
    let (bad, large) = ("it is bad", "its value has more than 1048576 bytes");
    let first = fixture.copy.run_once(Arc::clone(&batch)).await.unwrap();
    let applied = [(0, Ok("superseded")), (1, Ok("applied")), (2, Err(bad)), (4, Err(large))];
    assert_eq!(said(&first.answers), applied);
    let again = fixture.copy.run_once(batch).await.unwrap();
    assert_eq!((again.taken, again.refused, again.answers.len()), (0, 0, 0));
    let repeated = [(0, Ok("duplicate")), (1, Ok("duplicate")), (2, Err(bad)), (4, Err(large))];
    assert_eq!(said(&again.doubted), repeated);
}

/// It may be of a topic that was made anew: then nothing has taken it yet.
async fn what_looks_repeated_is_not_answered_before_its_topic_is_looked_at(
    mut fixture: ViewFixture,
) {
    fixture.copy = fixture.copy_of("view").answering_as("order-service");
    fixture.look(&[(0, Some(0), 42)]).await;
    fixture.take(&[(0, 41)]).await;
    let of_another = Arc::new(vec![event(3, "A", b"good")]);
    let taken = fixture.copy.run_once(Arc::clone(&of_another)).await.unwrap();
    assert_eq!((taken.taken, taken.answers.len(), taken.doubted.len()), (0, 0, 1));
    assert_eq!(fixture.look(&[(0, None, 100)]).await, BTreeMap::from([(0, 0)]));
    let taken = fixture.copy.run_once(of_another).await.unwrap();
    assert_eq!(said(&taken.answers), [(3, Ok("applied"))]);
    assert!(taken.doubted.is_empty());
}

/// The verdicts by the offsets of their messages: how those had their effect, or why they never will.
fn said(answers: &[(i32, Ack)]) -> Vec<(i64, Result<&str, &str>)> {
    let mut said = Vec::new();
    for (partition, ack) in answers {
        let offset = ack.offset.unwrap();
        assert_eq!((*partition, ack.partition, ack.attempt), (0, Some(0), 2));
        assert_eq!(ack.event_id.uuid().as_u128(), u128::from(offset.unsigned_abs()));
        assert_eq!((ack.consumer.as_str(), ack.retryable), ("order-service", false));
        said.push(match ack.outcome {
            Verdict::Failed => (offset, Err(ack.error.as_deref().unwrap())),
            _ => (offset, Ok(ack.detail.as_deref().unwrap())),
        });
    }
    said
}

async fn what_may_not_be_answered_yet_comes_again(mut fixture: ViewFixture) {
    fixture.take(&[(0, 8), (1, 3)]).await;
    let ends = [(0, Some(5), 20), (1, Some(4), 4)];
    fixture.copy = fixture.copy_of("view");
    let seeks = fixture.look(&ends).await;
    assert_eq!(seeks, BTreeMap::from([(0, 9), (1, 4)]), "by default the database is enough");
    fixture.copy = fixture.copy_of("view").answering_as("order-service");
    let seeks = fixture.look(&ends).await;
    assert_eq!(seeks, BTreeMap::from([(0, 5), (1, 4)]));
    let taken = fixture.take(&[(0, 5), (0, 8), (0, 9)]).await;
    assert_eq!((taken.taken, taken.repeating), (1, BTreeSet::from([0])));
    let seeks = fixture.look(&[(0, Some(5), 20)]).await;
    assert!(seeks.is_empty(), "what came again is not read once more: {seeks:?}");
}

async fn a_batch_is_taken_once(fixture: ViewFixture) {
    let taken = fixture.take(&[(0, 3), (0, 4), (2, 0)]).await;
    assert_eq!((taken.taken, taken.repeating.len()), (3, 0));
    fixture.clock.advance(Duration::from_secs(1));
    let taken = fixture.take(&[(0, 4), (0, 6), (2, 0)]).await;
    assert_eq!((taken.taken, taken.repeating), (1, BTreeSet::from([0, 2])));
    assert_eq!(fixture.next_offsets().await, [(0, 7), (2, 1)]);
    let places = fixture.seen();
    assert_eq!(places.iter().map(|one| one.offset).collect::<Vec<_>>(), [3, 4, 0, 6]);
    assert!(places.iter().all(|one| one.begun == START), "as long as the topic is the same");
}

async fn what_makes_no_sense_is_kept(fixture: ViewFixture) {
    let large = vec![b'x'; MAX_BYTES + 1];
    let records = vec![record(0, 0, b"bad"), record(0, 1, &large), record(0, 2, b"good")];
    let taken = fixture.copy.run_once(Arc::new(records)).await.unwrap();
    assert_eq!((taken.taken, taken.refused), (3, 2));
    assert_eq!(fixture.run(dead_letters::count_waiting).await, 2);
    assert_eq!(fixture.next_offsets().await, [(0, 3)]);
}

async fn a_partition_is_read_from_where_the_database_is(mut fixture: ViewFixture) {
    let back = fixture.look(&[(0, None, 0), (1, Some(5), 9)]).await;
    assert_eq!(back, BTreeMap::from([(0, 0), (1, 0)]), "a new database misses what was taken");
    fixture.take(&[(1, 0), (1, 8)]).await;
    let back = fixture.look(&[(0, Some(0), 0), (1, Some(5), 9)]).await;
    assert!(back.is_empty(), "it is there, and only the group is behind: {back:?}");
    let back = fixture.look(&[(1, Some(12), 15)]).await;
    assert_eq!(back, BTreeMap::from([(1, 9)]), "it came back from a backup");
    fixture.copy = fixture.copy_of("view");
    let back = fixture.look(&[(1, Some(9), 15)]).await;
    assert_eq!(back, BTreeMap::from([(1, 9)]), "a process that has just started");
}

/// A new topic that has already more than was taken of the former one.
async fn a_topic_that_the_group_knows_no_more_begins_anew(fixture: ViewFixture) {
    fixture.look(&[(0, Some(0), 42)]).await;
    fixture.take(&[(0, 0), (0, 41)]).await;
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.look(&[(0, None, 100)]).await, BTreeMap::from([(0, 0)]));
    let taken = fixture.take(&[(0, 0)]).await;
    assert_eq!((taken.taken, taken.lost.len()), (1, 0));
    let places = fixture.seen();
    assert!(places[2] > places[1], "{places:?}");
}

async fn a_database_that_goes_back_is_noticed(fixture: ViewFixture) {
    fixture.look(&[(0, Some(0), 100), (1, Some(0), 9)]).await;
    fixture.take(&[(0, 0), (0, 99), (1, 3)]).await;
    let back = |conn: &mut Conn| {
        let row = p::table.filter(p::partition.eq(0));
        on!(conn, c => diesel::update(row).set(p::next_offset.eq(50_i64)).execute(c))
    };
    fixture.run(back).await;
    let found = fixture.run(|conn| positions(conn, "view")).await;
    let lost = fixture.copy.progress.lost(&BTreeSet::from([0, 1]), &found);
    assert_eq!(lost, BTreeSet::from([0]), "also while no message comes");
    let taken = fixture.take(&[(0, 100), (1, 4)]).await;
    assert_eq!((taken.taken, taken.lost), (1, BTreeSet::from([0])));
    assert_eq!(fixture.next_offsets().await, [(0, 50), (1, 5)]);
    let seeks = fixture.look(&[(0, Some(40), 101), (1, Some(5), 9)]).await;
    assert_eq!(seeks, BTreeMap::from([(0, 50)]), "whatever the group has committed");
    let taken = fixture.take(&[(0, 50), (0, 100)]).await;
    assert_eq!((taken.taken, taken.lost.len()), (2, 0));
    assert_eq!(fixture.next_offsets().await, [(0, 101), (1, 5)]);

    fixture.run(|conn| on!(conn, c => diesel::delete(p::table).execute(c))).await;
    assert_eq!(fixture.copy.progress.lost(&BTreeSet::from([1]), &[]), BTreeSet::from([1]));
    let taken = fixture.take(&[(0, 101), (1, 5)]).await;
    assert_eq!((taken.taken, taken.lost), (0, BTreeSet::from([0, 1])), "nothing is left of it");
}

async fn a_topic_that_is_copied_again_begins_later_than_the_other(mut fixture: ViewFixture) {
    fixture.look(&[(0, Some(0), 6)]).await;
    fixture.take(&[(0, 5)]).await;
    let other = fixture.copy_of("other");
    other.run_once(Arc::new(vec![record(0, 0, b"good")])).await.unwrap();
    let back = fixture.look(&[(0, Some(6), 9)]).await;
    assert!(back.is_empty(), "an instance that still has the former setting goes on: {back:?}");
    fixture.copy = fixture.copy_of("view");
    assert_eq!(fixture.look(&[(0, Some(6), 9)]).await, BTreeMap::from([(0, 0)]));
    fixture.take(&[(0, 0)]).await;
    let places = fixture.seen();
    assert!(places[0] < places[1] && places[1] < places[2], "as they were taken: {places:?}");
    fixture.copy = fixture.copy_of("view");
    let back = fixture.look(&[(0, Some(1), 9)]).await;
    assert_eq!(back, BTreeMap::from([(0, 1)]), "it is the later one now");
}

async fn a_topic_that_was_made_anew_begins_anew(fixture: ViewFixture) {
    fixture.take(&[(0, 0), (0, 41)]).await;
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.look(&[(0, None, 3)]).await, BTreeMap::from([(0, 0)]));
    assert_eq!(fixture.next_offsets().await, [(0, 0)]);
    fixture.take(&[(0, 2)]).await;
    let places = fixture.seen();
    assert!(places[2] > places[1], "{places:?}");
    // What another instance still had of the former topic moves nothing.
    let of_before = record(0, 42, b"good");
    let topic = fixture.copy.topic.clone();
    let late = move |conn: &mut Conn| {
        let place = Place { begun: START, offset: 42 };
        position::advance(conn, &topic, &[ViewMessage { place, record: &of_before }], START)
    };
    fixture.run(late).await;
    assert_eq!(fixture.next_offsets().await, [(0, 3)]);
}

async fn how_far_it_is_behind_is_known_once_all_was_looked_at(fixture: ViewFixture) {
    let lag = || async { fixture.run(|conn| lags(conn, START)).await };
    fixture.take(&[(0, 3), (1, 0)]).await;
    assert!(lag().await.is_empty(), "never looked at");
    fixture.look(&[(0, Some(4), 10)]).await;
    fixture.clock.advance(Duration::from_secs(5));
    fixture.look(&[(1, Some(1), 1)]).await;
    let expected = ViewLag { topic: "view".to_owned(), behind: 6, checked_at: START };
    assert_eq!(lag().await, std::slice::from_ref(&expected));
    let all = fixture.run(|conn| positions(conn, "view")).await;
    assert_eq!(ViewLag::of("view", &all), Some(expected.clone()));
    assert!(expected.is_of_now(START.after(Duration::from_secs(60))));
    assert!(!expected.is_of_now(START.after(Duration::from_secs(61))));
    assert_eq!(ViewLag::of("view", &[]), None);
    let later = START.after(Duration::from_secs(10 * 60 + 1));
    let lags_then = fixture.run(move |conn| lags(conn, later)).await;
    assert!(lags_then.is_empty(), "a look at one of its partitions is too old: {lags_then:?}");
    let later = START.after(Duration::from_secs(3_600));
    assert!(fixture.run(move |conn| lags(conn, later)).await.is_empty(), "nobody looks any more");
}
