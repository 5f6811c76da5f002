#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use common::clock::ManualClock;
use common::db::ENGINE_MIGRATIONS;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

use super::*;

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

on_every_database!(
    PositionFixture::new =>
    what_is_committed_beyond_the_position_is_told_once,
    a_crash_before_the_commit_is_no_restore,
    a_batch_that_comes_late_takes_nothing_back,
    a_topic_that_was_made_anew_begins_anew,
    a_database_that_is_replaced_under_a_service_that_runs_is_told,
    what_is_behind_is_told_beside_what_is_not_and_what_is_new,
);

struct PositionFixture {
    db: Db,
    env: Env,
    positions: ReadPositions,
    _database: TestDatabase,
}

impl PositionFixture {
    fn new(database: TestDatabase) -> Self {
        Self {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env: Env::seeded(Arc::new(ManualClock::at(START)), 5),
            positions: ReadPositions::new("order-service", "events"),
            _database: database,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write::<_, DbError>(|conn| Ok(work(conn)?)).await.unwrap()
    }

    /// A start: `committed` is what the broker says of these partitions.
    async fn look(&self, committed: &[(i32, Option<i64>)]) -> Looked {
        let assigned: BTreeSet<i32> = committed.iter().map(|(partition, _)| *partition).collect();
        let committed =
            committed.iter().filter_map(|(partition, at)| Some((*partition, (*at)?))).collect();
        let (positions, now) = (self.positions.clone(), self.env.now());
        self.run(move |conn| positions.compare_in(conn, now, &assigned, &committed)).await
    }

    async fn take(&self, offsets: &[(i32, i64)]) {
        let records: Vec<Record> = offsets.iter().map(|(p, offset)| record(*p, *offset)).collect();
        let (positions, now, taken) = (self.positions.clone(), self.env.now(), records.clone());
        self.run(move |conn| positions.note(conn, now, &taken)).await;
        self.positions.took(&records);
    }

    async fn stored(&self) -> Vec<(i32, i64)> {
        let stored = self.run(|conn| stored(conn, "events")).await;
        stored.into_values().map(|row| (row.partition, row.next_offset)).collect()
    }

    async fn set(&self, sql: &'static str) {
        self.run(move |conn| conn.batch_execute(sql)).await;
    }

    async fn newest(&self) -> Option<model::Restoration> {
        self.run(|conn| model::newest(conn, "order-service")).await
    }

    async fn alerts(&self) -> i64 {
        use common::schema::alert;
        self.run(|conn| {
            let open = alert::table.filter(alert::kind.eq("database_behind")).count();
            on!(conn, c => open.get_result(c))
        })
        .await
    }
}

fn record(partition: i32, offset: i64) -> Record {
    Record { topic: "events".to_owned(), partition, offset, ..Record::default() }
}

async fn what_is_committed_beyond_the_position_is_told_once(f: PositionFixture) {
    assert_eq!(f.look(&[(0, None), (1, Some(7))]).await, Looked::default(), "a first start");
    assert_eq!(f.stored().await, [(0, 0), (1, 7)], "also where the topic is empty");
    f.take(&[(0, 4), (0, 5), (1, 9)]).await;
    assert_eq!(f.look(&[(0, Some(6)), (1, Some(10))]).await, Looked::default());
    let looked = f.look(&[(0, Some(6)), (1, Some(25))]).await;
    assert!(looked.found);
    let newest = f.newest().await.unwrap();
    assert_eq!((newest.state, newest.since_us), (model::State::Found, Some(START)));
    assert!(newest.detail.contains("(partition 1: 10, answered up to 25)"), "{}", newest.detail);
    assert_eq!(f.stored().await, [(0, 6), (1, 25)], "it is told once");
    assert!(!f.look(&[(0, Some(8)), (1, Some(25))]).await.found, "it is known");
    assert_eq!(f.alerts().await, 1);
}

async fn a_crash_before_the_commit_is_no_restore(f: PositionFixture) {
    f.look(&[(0, None)]).await;
    f.take(&[(0, 0), (0, 1)]).await;
    assert_eq!(f.look(&[(0, None)]).await, Looked { found: false, ahead: vec![(0, 2)] });
    f.take(&[(0, 0), (0, 1), (0, 2)]).await;
    assert_eq!((f.stored().await, f.alerts().await), (vec![(0, 3)], 0));
}

async fn a_batch_that_comes_late_takes_nothing_back(f: PositionFixture) {
    f.look(&[(0, None)]).await;
    f.take(&[(0, 9)]).await;
    f.take(&[(0, 3)]).await;
    assert_eq!((f.stored().await, f.alerts().await), (vec![(0, 10)], 0));
    assert_eq!(f.look(&[(0, Some(10))]).await, Looked::default());
}

async fn a_topic_that_was_made_anew_begins_anew(f: PositionFixture) {
    f.look(&[(0, None)]).await;
    f.take(&[(0, 499)]).await;
    assert_eq!(f.look(&[(0, Some(3))]).await, Looked { found: false, ahead: vec![(0, 500)] });
    let anew = BTreeMap::from([(0, (500, 3))]);
    f.run(move |conn| begin_anew(conn, "events", &anew, START)).await;
    f.take(&[(0, 3)]).await;
    assert_eq!((f.stored().await, f.alerts().await), (vec![(0, 4)], 0));
    assert!(f.look(&[(0, Some(6))]).await.found, "that one can come back from a backup, too");
}

async fn a_database_that_is_replaced_under_a_service_that_runs_is_told(f: PositionFixture) {
    f.look(&[(0, None), (1, None)]).await;
    f.take(&[(0, 9), (1, 1)]).await;
    f.set("UPDATE read_position SET next_offset = 4 WHERE partition = 0").await;
    f.take(&[(1, 2)]).await;
    assert_eq!(f.alerts().await, 0, "nothing of that partition was looked at");
    f.take(&[(0, 10)]).await;
    assert_eq!(f.alerts().await, 1);
    assert!(f.newest().await.unwrap().detail.contains("partition 0: 4, answered up to 10"));
}

async fn what_is_behind_is_told_beside_what_is_not_and_what_is_new(f: PositionFixture) {
    f.look(&[(0, None), (1, None)]).await;
    f.take(&[(0, 9), (1, 9)]).await;
    f.take(&[(0, 19), (1, 4), (2, 0)]).await;
    assert_eq!((f.stored().await, f.alerts().await), (vec![(0, 20), (1, 10), (2, 1)], 0));
    f.set("UPDATE read_position SET next_offset = 4 WHERE partition = 0").await;
    f.take(&[(0, 20), (1, 10), (2, 1)]).await;
    let detail = f.newest().await.unwrap().detail;
    assert!(detail.contains("(partition 0: 4, answered up to 20)"), "{detail}");
    assert_eq!((f.stored().await, f.alerts().await), (vec![(0, 21), (1, 11), (2, 2)], 1));
}
