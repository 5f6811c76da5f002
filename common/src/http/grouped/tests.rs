//! What every group does, whatever it writes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::FromRequest;
use actix_web::http::StatusCode;
use actix_web::test::TestRequest;
use diesel::result::DatabaseErrorKind;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use futures::future::join_all;
use futures::poll;
use tracing::Instrument;

use super::*;
use crate::db::{DatabaseSettings, Pooler};
use crate::on;

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Well,
    /// There is much to be done for it.
    Heavy,
    /// The program panics.
    Flawed,
    /// Its statement fails.
    Poison,
    /// The connection breaks.
    Away,
    /// Its commit fails.
    Late,
}

/// Writes a row for each change, and notes what was in each group.
#[derive(Clone)]
struct Rows {
    db: Db,
    keys: KeysInProgress,
    groups: Arc<Mutex<Vec<Vec<Kind>>>>,
    /// What the next group fails with that comes to its end.
    fails_with: Arc<Mutex<Option<GroupError>>>,
}

impl GroupWork for Rows {
    type Change = Kind;

    fn parts(&self) -> GroupParts<'_> {
        GroupParts { db: &self.db, keys: &self.keys, now: Timestamp::from_micros(1) }
    }

    fn place(_: &Kind) -> usize {
        0
    }

    fn weight(kind: &Kind) -> usize {
        if *kind == Kind::Heavy { 5_000 } else { 1 }
    }

    fn apply(
        &self,
        conn: &mut Conn,
        _: Timestamp,
        group: &[GroupedChange<'_, Kind>],
    ) -> Result<Vec<GroupOutcome>, GroupError> {
        let kinds = group.iter().map(|one| *one.change).collect();
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).push(kinds);
        let mut outcomes = Vec::new();
        for one in group {
            assert_ne!(*one.change, Kind::Flawed, "a flaw");
            match one.change {
                Kind::Poison => conn.batch_execute("INSERT INTO nowhere VALUES (1)")?,
                Kind::Late => conn.batch_execute("INSERT INTO late VALUES (7)")?,
                Kind::Away => return Err(Error::BrokenTransactionManager.into()),
                _ => conn.batch_execute("INSERT INTO t VALUES (1)")?,
            }
            outcomes.push(GroupOutcome::done(Reply::json(StatusCode::OK, &1))?);
        }
        match self.fails_with.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(outcomes),
        }
    }

    fn committed(&self) {}
}

struct GroupFixture {
    rows: Rows,
    writes: GroupedWrites<Rows>,
    _folder: tempfile::TempDir,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl GroupFixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings {
            url: format!("sqlite:{}", folder.path().join("t.db").display()).into(),
            pooler: Pooler::None,
            pool_size: 2,
            loop_pool_size: 1,
            connect_timeout: Duration::from_secs(5),
        };
        let db = Db::open(&settings).unwrap();
        let tables = "CREATE TABLE t (n INTEGER); CREATE TABLE early (n INTEGER PRIMARY KEY); \
                      CREATE TABLE late (n INTEGER REFERENCES early DEFERRABLE INITIALLY DEFERRED)";
        db.write::<_, DbError>(move |conn| Ok(conn.batch_execute(tables)?)).await.unwrap();
        let (keys, groups, fails_with) = Default::default();
        let rows = Rows { db, keys, groups, fails_with };
        Self { writes: GroupedWrites::new(1, rows.clone()), rows, _folder: folder }
    }

    /// Sends all at once: they ride together. The status that each is answered.
    async fn send(&self, kinds: &[Kind]) -> Vec<u16> {
        let status = |answer: ProblemResult<HttpResponse>| match answer {
            Ok(response) => response.status().as_u16(),
            Err(problem) => problem.status,
        };
        self.answers(kinds).await.into_iter().map(status).collect()
    }

    /// Sends all at once: they ride together. What each is answered.
    async fn answers(&self, kinds: &[Kind]) -> Vec<ProblemResult<HttpResponse>> {
        let send = |(n, kind): (usize, &Kind)| {
            let span = tracing::info_span!("request", n);
            self.writes.write(request(*kind, Bytes::new())).instrument(span)
        };
        join_all(kinds.iter().enumerate().map(send)).await
    }

    /// Lets the next group fail that comes to its end.
    fn fail_once(&self, error: GroupError) {
        *self.rows.fails_with.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn groups(&self) -> Vec<Vec<Kind>> {
        self.rows.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.groups().iter().map(Vec::len).collect()
    }

    async fn count(&self) -> i64 {
        let count = |conn: &mut Conn| {
            let counted: Count =
                on!(conn, c => sql_query("SELECT count(*) AS n FROM t").get_result(c))?;
            Ok::<_, DbError>(counted.n)
        };
        self.rows.db.read(count).await.unwrap()
    }
}

fn request(change: Kind, body: Bytes) -> GroupedRequest<Kind> {
    let key = IdempotencyKey::extract(&TestRequest::default().to_http_request());
    let (key, trace) = (key.into_inner().unwrap(), TraceParent::default());
    GroupedRequest { change, key, body, trace }
}

#[tokio::test]
async fn those_that_come_at_once_share_a_transaction() {
    let fixture = GroupFixture::new().await;
    assert_eq!(fixture.send(&[Kind::Well; 3]).await, [200; 3]);
    assert_eq!((fixture.sizes(), fixture.count().await), (vec![3], 3));
    assert_eq!(fixture.send(&[Kind::Well]).await, [200]);
    assert_eq!(fixture.sizes(), [3, 1]);
}

#[tokio::test]
async fn what_is_much_has_fewer_beside_it() {
    let fixture = GroupFixture::new().await;
    assert_eq!(fixture.send(&[Kind::Heavy; 5]).await, [200; 5]);
    assert_eq!(fixture.sizes(), [2, 2, 1]);
}

#[tokio::test]
async fn no_body_is_kept_while_its_request_waits() {
    let (fixture, body) = (GroupFixture::new().await, Bytes::from(vec![7; 100]));
    let mut answer = pin!(fixture.writes.write(request(Kind::Well, body.clone())));
    assert!(!body.is_unique());
    assert!(poll!(answer.as_mut()).is_pending());
    assert!(body.is_unique(), "its hash is enough");
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_flaw_is_of_one_alone() {
    let fixture = GroupFixture::new().await;
    let answers = fixture.send(&[Kind::Well, Kind::Flawed, Kind::Well]).await;
    assert_eq!(answers, [200, 500, 200]);
    assert_eq!(fixture.count().await, 2);
    assert_eq!(fixture.sizes(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn a_flaw_that_shows_while_a_group_is_taken_apart_is_of_one_alone() {
    let fixture = GroupFixture::new().await;
    let answers = fixture.send(&[Kind::Poison, Kind::Flawed, Kind::Well]).await;
    assert_eq!(answers, [500, 500, 200]);
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test]
async fn a_failed_statement_is_of_one_alone() {
    let fixture = GroupFixture::new().await;
    let answers = fixture.send(&[Kind::Well, Kind::Poison, Kind::Well, Kind::Well]).await;
    assert_eq!(answers, [200, 500, 200, 200]);
    assert_eq!(fixture.count().await, 3);
    assert_eq!(fixture.sizes(), [4, 4, 2, 1, 1, 2]);
    assert_eq!(fixture.send(&[Kind::Poison]).await, [500]);
    assert_eq!(fixture.sizes().len(), 7, "one alone is not tried again");
}

#[tokio::test]
async fn what_another_one_overtook_is_tried_again() {
    let fixture = GroupFixture::new().await;
    fixture.fail_once(GroupError::Raced);
    assert_eq!(fixture.send(&[Kind::Well; 2]).await, [200; 2]);
    assert_eq!(fixture.count().await, 2);
    assert_eq!(fixture.sizes().iter().sum::<usize>(), 4);
}

#[tokio::test]
async fn what_is_overtaken_in_a_part_is_all_tried_again() {
    let fixture = GroupFixture::new().await;
    // The first part that comes to its end is the one behind what was at fault.
    fixture.fail_once(GroupError::Raced);
    let answers = fixture.send(&[Kind::Poison, Kind::Well, Kind::Well, Kind::Well]).await;
    assert_eq!(answers, [500, 200, 200, 200]);
    assert_eq!(fixture.count().await, 3);
    let groups = fixture.groups();
    let (before, after) = groups.split_at(5);
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 1, 1]);
    assert!(after.iter().flatten().any(|kind| *kind == Kind::Poison), "it is not blamed yet");
}

#[tokio::test]
async fn what_others_went_before_is_tried_again() {
    let fixture = GroupFixture::new().await;
    let victim = || {
        let kind = DatabaseErrorKind::SerializationFailure;
        let error = Error::DatabaseError(kind, Box::new("others went before".to_owned()));
        fixture.fail_once(error.into());
    };
    victim();
    assert_eq!(fixture.send(&[Kind::Well; 3]).await, [200; 3]);
    assert_eq!(fixture.count().await, 3);
    victim();
    assert_eq!(fixture.send(&[Kind::Well]).await, [200], "also one alone");
    victim();
    let answers = fixture.send(&[Kind::Well, Kind::Poison, Kind::Well]).await;
    assert_eq!(answers, [200, 500, 200], "also while a group is taken apart");
    victim();
    let answers = fixture.send(&[Kind::Well, Kind::Flawed, Kind::Well]).await;
    assert_eq!(answers, [200, 500, 200], "also where each goes by itself");
    assert_eq!(fixture.count().await, 8);
}

#[tokio::test]
async fn what_may_be_done_is_told_so_and_not_done_again() {
    let fixture = GroupFixture::new().await;
    for answer in fixture.answers(&[Kind::Well, Kind::Late, Kind::Well]).await {
        let problem = answer.unwrap_err();
        assert_eq!(
            (problem.status, &*problem.kind),
            (503, "urn:stockloop:problem:outcome-not-known")
        );
    }
    assert_eq!(fixture.sizes(), [3]);
    assert_eq!(fixture.send(&[Kind::Well]).await, [200]);
}

#[tokio::test]
async fn of_what_was_not_begun_nobody_is_told_that_it_may_be_done() {
    let fixture = GroupFixture::new().await;
    let answers = fixture.send(&[Kind::Flawed, Kind::Late, Kind::Well]).await;
    assert_eq!(answers, [500, 503, 200]);
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_fails_for_all_is_logged_of_each() {
    let (memory, fixture) = (Memory::default(), GroupFixture::new().await);
    let out = memory.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || out.clone()).finish();
    let logging = tracing::subscriber::set_default(log);
    assert_eq!(fixture.send(&[Kind::Well, Kind::Away, Kind::Well]).await, [503; 3]);
    drop(logging);
    assert_eq!((fixture.sizes(), fixture.count().await), (vec![3], 0));
    let log = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    for n in 0..3 {
        let own = log.lines().filter(|line| line.contains(&format!("request{{n={n}}}")));
        assert_eq!(own.count(), 1, "{log}");
    }
}
