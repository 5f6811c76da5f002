#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use common::clock::ManualClock;
use common::db::{Db, ENGINE_MIGRATIONS};
use common::env::Env;
use common::on;
use common::schema::{restoration, resync_job, verification, verification_key};
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

use super::super::{Request, StartError, find, found};
use super::*;
use crate::outbox::Outbox;
use crate::peer::Peer;

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

on_every_database!(
    RestorerFixture::new =>
    an_owner_sends_all_verifies_and_repairs_until_it_is_equal,
    every_copy_is_proved,
    the_service_that_sends_commands_is_told_before_it_ends,
    a_service_that_sends_no_commands_is_told_once,
    what_does_not_get_less_ends_different,
    what_could_not_be_found_out_is_tried_again,
    nothing_is_begun_without_a_cause_or_twice,
    a_second_restore_of_the_same_backup_gets_another_epoch,
    a_job_that_a_person_cancels_ends_it,
    a_copy_that_asks_is_served_once_at_a_time,
    a_copy_that_has_more_than_its_owner_waits_for_a_person,
    an_owner_that_is_behind_mends_no_copy,
);

struct RestorerFixture {
    clock: ManualClock,
    restorer: Restorer,
    _database: TestDatabase,
}

fn ada() -> Actor {
    Actor { name: "ada".to_owned(), method: AuthMethod::Session }
}

fn peer() -> Peer {
    peer_at("http://127.0.0.1:1".to_owned())
}

fn peer_at(url: String) -> Peer {
    Peer::at("peer", &url, "", &String::new().into(), Duration::from_secs(1)).unwrap()
}

impl RestorerFixture {
    fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let restorer = Restorer {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env: Env::seeded(Arc::new(clock.clone()), 5),
            service: "product-service".to_owned(),
            other: "order-service".to_owned(),
            consumers: vec!["order-service".to_owned()],
            side: Side::Owner,
            peer: peer(),
            timeout: Duration::from_secs(1),
            woken: Arc::default(),
        };
        Self { clock, restorer, _database: database }
    }

    fn db(&self) -> &Db {
        &self.restorer.db
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db().write::<_, DbError>(|conn| Ok(work(conn)?)).await.unwrap()
    }

    async fn found(&self) {
        let work = |conn: &mut Conn| found(conn, START, "product-service", Some(START), "it shows");
        assert!(self.run(work).await);
    }

    /// Begins it, where the other service knows of it at once.
    async fn start(&self, force: bool) -> Result<Restoration, String> {
        let started = self.start_untold(force).await;
        self.run(|conn| {
            let told = restoration::tell_us.eq(None::<Timestamp>);
            on!(conn, c => diesel::update(restoration::table).set(told).execute(c))
        })
        .await;
        started
    }

    async fn start_untold(&self, force: bool) -> Result<Restoration, String> {
        let restorer = self.restorer.clone();
        self.run(move |conn| {
            let request = Request { reason: None, force };
            match restorer.start(conn, &ada(), request) {
                Err(StartError::Query(error)) => Err(error),
                other => Ok(other.map_err(|error| error.to_string())),
            }
        })
        .await
    }

    /// The copy asks for what it misses.
    async fn ask(&self) -> Result<Restoration, String> {
        let restorer = self.restorer.clone();
        self.run(move |conn| match restorer.start_for(conn, "order-service", None) {
            Err(StartError::Query(error)) => Err(error),
            other => Ok(other.map_err(|error| error.to_string())),
        })
        .await
    }

    /// A step, when the pause before it is over.
    async fn step(&self) -> Outcome {
        self.clock.advance(Duration::from_secs(10));
        self.restorer.run_once().await.unwrap()
    }

    async fn row(&self, seq: i64) -> Restoration {
        self.run(move |conn| find(conn, seq)).await.unwrap()
    }

    async fn end_job(&self, state: JobState) {
        self.run(move |conn| {
            let open = resync_job::table.filter(resync_job::ended_us.is_null());
            let change = (resync_job::state.eq(state), resync_job::ended_us.eq(Some(START)));
            on!(conn, c => diesel::update(open).set(change).execute(c))
        })
        .await;
    }

    async fn end_verification(&self, state: verify::State, differences: i64) {
        self.run(move |conn| {
            use verification as v;
            let open = v::table.filter(v::ended_us.is_null());
            let change =
                (v::state.eq(state), v::differences.eq(differences), v::ended_us.eq(Some(START)));
            on!(conn, c => diesel::update(open).set(change).execute(c))
        })
        .await;
    }

    async fn jobs(&self) -> Vec<String> {
        self.run(|conn| {
            let kinds = resync_job::table.order(resync_job::seq).select(resync_job::kind);
            on!(conn, c => kinds.load(c))
        })
        .await
    }

    async fn epoch(&self) -> i64 {
        self.run(Outbox::epoch).await
    }
}

async fn an_owner_sends_all_verifies_and_repairs_until_it_is_equal(f: RestorerFixture) {
    f.found().await;
    let before = f.epoch().await;
    let seq = f.start(false).await.unwrap().seq;
    assert!(f.epoch().await > before);
    assert_eq!(f.jobs().await, ["restored"]);
    let waits = f.step().await;
    assert!(waits.open && !waits.verifies, "its job is not done: {waits:?}");
    f.end_job(JobState::Done).await;
    f.step().await;
    assert!(f.step().await.verifies);
    assert!(!f.step().await.verifies, "it is not at its end");
    f.end_verification(verify::State::Different, 7).await;
    assert!(f.step().await.resends);
    assert_eq!(f.jobs().await, ["restored", "repair"]);
    f.end_job(JobState::Done).await;
    f.step().await;
    assert!(f.step().await.verifies);
    f.end_verification(verify::State::Equal, 0).await;
    let ended = f.step().await;
    assert!(ended.ended && !ended.open, "{ended:?}");
    let row = f.row(seq).await;
    assert_eq!((row.state, row.rounds, row.differences), (State::Equal, 1, 0));
    assert_eq!(f.step().await, Outcome::default());
}

/// Each copy may have seen what the owner has no more: so each is proved, one after the other.
async fn every_copy_is_proved(mut f: RestorerFixture) {
    f.restorer.consumers.push("search-service".to_owned());
    let seq = f.start(true).await.unwrap().seq;
    f.end_job(JobState::Done).await;
    f.step().await;
    for copy in ["order-service", "search-service"] {
        assert!(f.step().await.verifies);
        let row = f.row(seq).await;
        assert_eq!(row.consumer.as_deref(), Some(copy));
        let of = f.run(move |conn| verify::find(conn, row.verification.unwrap())).await.unwrap();
        assert_eq!(of.consumer, copy);
        assert_eq!(f.row(seq).await.state, State::Running);
        f.end_verification(verify::State::Equal, 0).await;
        f.step().await;
    }
    assert_eq!(f.row(seq).await.state, State::Equal);
}

/// What answers every request with this status.
fn service_that_answers(status: u16, body: Value) -> Peer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = HttpServer::new(move || {
        let body = body.clone();
        let answer = move || {
            let body = body.clone();
            async move { HttpResponse::build(status.try_into().unwrap()).json(body) }
        };
        App::new().route("/api/v1/replica/losses", web::post().to(answer))
    });
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    peer_at(url)
}

async fn the_service_that_sends_commands_is_told_before_it_ends(mut f: RestorerFixture) {
    let seq = f.start_untold(true).await.unwrap().seq;
    f.end_job(JobState::Done).await;
    f.step().await;
    assert!(f.step().await.verifies);
    f.end_verification(verify::State::Equal, 0).await;
    let waits = f.step().await;
    assert!(waits.open && !waits.ended, "{waits:?}");
    let row = f.row(seq).await;
    assert_eq!(row.state, State::Running);
    assert!(row.waits_for.unwrap().contains("order-service can't be told at"));
    f.restorer.peer = service_that_answers(500, json!({}));
    f.step().await;
    assert!(f.row(seq).await.waits_for.unwrap().contains("it answered 500"));
    f.restorer.peer = service_that_answers(200, json!({"check": "1"}));
    let ended = f.step().await;
    assert!(ended.ended && !ended.open, "{ended:?}");
    let row = f.row(seq).await;
    assert_eq!((row.state, row.tell_us, row.untold), (State::Equal, None, None));
}

async fn a_service_that_sends_no_commands_is_told_once(mut f: RestorerFixture) {
    f.restorer.peer = service_that_answers(404, json!({"error": "no such page"}));
    let seq = f.start_untold(true).await.unwrap().seq;
    f.step().await;
    assert!(f.row(seq).await.tell_us.is_some(), "some other server answers there");
    let problem = Problem::not_found("order-service sends no commands");
    f.restorer.peer = service_that_answers(404, json!(problem));
    f.step().await;
    assert_eq!(f.row(seq).await.tell_us, None);
}

async fn what_does_not_get_less_ends_different(f: RestorerFixture) {
    let seq = f.start(true).await.unwrap().seq;
    for differences in [9, 4, 4] {
        f.end_job(JobState::Done).await;
        f.step().await;
        assert!(f.step().await.verifies);
        f.end_verification(verify::State::Different, differences).await;
        f.step().await;
    }
    let row = f.row(seq).await;
    assert_eq!((row.state, row.rounds, row.differences), (State::Different, 2, 4));
    assert!(row.is_behind());
    assert_eq!(f.start(false).await.unwrap().seq, seq + 1, "a person may try again");
}

async fn what_could_not_be_found_out_is_tried_again(f: RestorerFixture) {
    let seq = f.start(true).await.unwrap().seq;
    f.end_job(JobState::Done).await;
    f.step().await;
    let scheduled = NewVerification {
        consumer: "order-service".to_owned(),
        keys_of: None,
        share: 10,
        state: verify::State::Waiting,
        created_us: START,
        created_by: "the schedule".to_owned(),
        created_via: verify::SCHEDULED.to_owned(),
    };
    f.run(move |conn| verify::insert(conn, &scheduled)).await.unwrap();
    assert!(f.step().await.verifies, "the schedule gives way");
    for _ in 0..2 {
        f.end_verification(verify::State::Unknown, 0).await;
        assert!(f.step().await.open);
        assert!(f.step().await.verifies);
    }
    f.end_verification(verify::State::Equal, 0).await;
    assert!(f.step().await.ended);
    assert_eq!(f.row(seq).await.state, State::Equal);
}

async fn nothing_is_begun_without_a_cause_or_twice(f: RestorerFixture) {
    let before = f.epoch().await;
    let refused = f.start(false).await.unwrap_err();
    assert!(refused.contains("nothing shows that the database of product-service"), "{refused}");
    assert_eq!((f.epoch().await, f.jobs().await.len()), (before, 0));
    let seq = f.start(true).await.unwrap().seq;
    for force in [false, true] {
        assert!(f.start(force).await.unwrap_err().contains(&format!("restoration {seq} is under")));
    }
    assert_eq!(f.jobs().await.len(), 1);
}

async fn a_second_restore_of_the_same_backup_gets_another_epoch(f: RestorerFixture) {
    let backup = f.epoch().await;
    let first = f.start(true).await.unwrap().epoch.unwrap();
    f.clock.advance(Duration::from_secs(60));
    f.run(move |conn| {
        conn.batch_execute(&format!(
            "DELETE FROM restoration; UPDATE service_state SET epoch = {backup}"
        ))
    })
    .await;
    assert!(f.start(true).await.unwrap().epoch.unwrap() > first);
}

async fn a_job_that_a_person_cancels_ends_it(f: RestorerFixture) {
    let seq = f.start(true).await.unwrap().seq;
    f.end_job(JobState::Cancelled).await;
    assert!(f.step().await.ended);
    let row = f.row(seq).await;
    assert_eq!(row.state, State::Cancelled);
    assert!(row.waits_for.unwrap().contains("cancelled the job"));
}

async fn a_copy_that_asks_is_served_once_at_a_time(f: RestorerFixture) {
    let before = f.epoch().await;
    let first = f.ask().await.unwrap();
    assert_eq!(f.ask().await.unwrap().seq, first.seq);
    assert_eq!(f.epoch().await, before, "the owner is right");
    assert!(f.step().await.verifies);
    f.end_verification(verify::State::Different, 2).await;
    f.step().await;
    assert_eq!(f.jobs().await, ["repair"]);
    f.end_job(JobState::Done).await;
    f.step().await;
    f.step().await;
    f.end_verification(verify::State::Equal, 0).await;
    f.step().await;
    assert_eq!(f.row(first.seq).await.state, State::Equal);
    assert_ne!(f.ask().await.unwrap().seq, first.seq);
}

/// Else an owner that lost would have its copies lose the same.
async fn a_copy_that_has_more_than_its_owner_waits_for_a_person(f: RestorerFixture) {
    let seq = f.ask().await.unwrap().seq;
    f.step().await;
    let verification = f.row(seq).await.verification.unwrap();
    f.run(move |conn| {
        use verification_key as k;
        let row = (
            k::verification.eq(verification),
            k::key.eq("P1"),
            k::finding.eq(Finding::Unknown.name()),
            k::looks.eq(1),
            k::due_us.eq(0),
            k::found_us.eq(0),
        );
        on!(conn, c => diesel::insert_into(k::table).values(row).execute(c))
    })
    .await;
    f.end_verification(verify::State::Different, 3).await;
    assert!(f.step().await.ended);
    let row = f.row(seq).await;
    assert_eq!((row.state, f.jobs().await), (State::Different, vec![]));
    assert!(row.waits_for.unwrap().contains("has 1 keys that product-service never had"));
}

async fn an_owner_that_is_behind_mends_no_copy(f: RestorerFixture) {
    f.found().await;
    assert!(f.ask().await.unwrap_err().contains("came back from a backup itself"));
    f.start(false).await.unwrap();
    assert_eq!(f.ask().await.unwrap().state, State::Running, "it is being mended");
}
