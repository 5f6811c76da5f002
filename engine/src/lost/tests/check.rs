#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use common::clock::ManualClock;
use common::config::PeerSettings;
use common::db::{Db, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventRow};
use common::on;
use common::schema::{alert, outbox_event, outbox_pending, outbox_settled};
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

use super::super::{Commander, DecideError, Decided, Selection, Verdict, find, page};
use super::*;
use crate::audit::{Actor, AuthMethod};
use crate::peer::Peer;

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

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
    what_is_decided_is_not_decided_again,
    all_are_decided_page_by_page,
    what_is_not_kept_can_only_be_accepted,
);

/// How the receiver answers.
#[derive(Debug, Clone)]
enum Receiver {
    /// It knows all but these, and all from this moment on.
    Without(Vec<EventId>, Option<Timestamp>),
    Status(u16),
    Body(Value),
    Hangs,
}

#[derive(Debug, Default)]
struct ToyCommander {
    obsolete: Mutex<BTreeSet<String>>,
    not_kept: Mutex<BTreeSet<String>>,
    sent: Mutex<Vec<String>>,
    env: Mutex<Option<Env>>,
}

impl Commander for ToyCommander {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == "command"
    }

    fn judge(&self, _: &mut Conn, lost: &[LostCommand]) -> QueryResult<Vec<Judgement>> {
        let (obsolete, not_kept) = (self.obsolete.lock().unwrap(), self.not_kept.lock().unwrap());
        let judge = |command: &LostCommand| match &command.key {
            key if obsolete.contains(key) => Judgement::Obsolete("it is over".to_owned()),
            key if not_kept.contains(key) => Judgement::NotKept,
            _ => Judgement::Matters,
        };
        Ok(lost.iter().map(judge).collect())
    }

    fn send_again(
        &self,
        _: &mut Conn,
        _: Timestamp,
        lost: &[LostCommand],
        _: &str,
    ) -> QueryResult<Vec<EventId>> {
        self.sent.lock().unwrap().extend(lost.iter().map(|command| command.key.clone()));
        let env = self.env.lock().unwrap().clone().unwrap();
        Ok(lost.iter().map(|_| env.event_id()).collect())
    }

    fn accept(&self, _: &mut Conn, _: Timestamp, _: &[LostCommand], _: &str) -> QueryResult<()> {
        Ok(())
    }
}

struct LostFixture {
    clock: ManualClock,
    lost: Lost,
    commander: Arc<ToyCommander>,
    receiver: Arc<Mutex<Receiver>>,
    asked: Arc<Mutex<Vec<usize>>>,
    _database: TestDatabase,
}

type Shared = (Arc<Mutex<Receiver>>, Arc<Mutex<Vec<usize>>>);

async fn answer(shared: Data<Shared>, body: web::Json<ReceivedIds>) -> HttpResponse {
    let receiver = shared.0.lock().unwrap().clone();
    shared.1.lock().unwrap().push(body.ids.len());
    match receiver {
        Receiver::Without(lost, known_from) => HttpResponse::Ok().json(Received {
            service: "product-service".to_owned(),
            unknown: body.ids.iter().filter(|id| lost.contains(id)).copied().collect(),
            known_from,
        }),
        Receiver::Status(status) => HttpResponse::build(status.try_into().unwrap()).finish(),
        Receiver::Body(body) => HttpResponse::Ok().json(body),
        Receiver::Hangs => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            HttpResponse::Ok().finish()
        }
    }
}

fn serve(shared: Shared) -> Peer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = Data::new(shared);
    let server = HttpServer::new(move || {
        let route = web::post().to(answer);
        App::new().app_data(shared.clone()).route("/api/v1/replica/received", route)
    });
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    Peer::new(&PeerSettings {
        url,
        api_token: String::new().into(),
        timeout: Duration::from_secs(1),
        cache_ttl: Duration::ZERO,
        cache_bytes: 0,
        breaker_calls: 2,
        breaker_pause: Duration::ZERO,
    })
    .unwrap()
}

fn ada() -> Actor {
    Actor { name: "ada".to_owned(), method: AuthMethod::Session }
}

impl LostFixture {
    fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 5);
        let receiver = Arc::new(Mutex::new(Receiver::Without(Vec::new(), None)));
        let asked = Arc::default();
        let commander = Arc::new(ToyCommander::default());
        *commander.env.lock().unwrap() = Some(env.clone());
        let lost = Lost {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env,
            service: "order-service".to_owned(),
            receiver: "product-service".to_owned(),
            peer: serve((Arc::clone(&receiver), Arc::clone(&asked))),
            timeout: Duration::from_millis(300),
            kept: Duration::from_secs(7 * 24 * 60 * 60),
            commander: commander.clone(),
            woken: Arc::default(),
        };
        Self { clock, lost, commander, receiver, asked, _database: database }
    }

    fn db(&self) -> &Db {
        &self.lost.db
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db().write::<_, DbError>(|conn| Ok(work(conn)?)).await.unwrap()
    }

    /// Appended events of a type, one for each key.
    async fn events(&self, event_type: &str, keys: &[String]) -> Vec<EventId> {
        let row = |key: &String| EventRow {
            id: self.lost.env.event_id(),
            kind: EventKind::Command,
            event_type: event_type.to_owned(),
            key: key.clone(),
            epoch: 1,
            version: 0,
            payload: "{}".to_owned(),
            traceparent: None,
            created_us: START,
        };
        let rows: Vec<EventRow> = keys.iter().map(row).collect();
        let ids = rows.iter().map(|row| row.id).collect();
        self.run(move |conn| {
            rows.chunks(500).try_for_each(|rows| {
                on!(&mut *conn, c => diesel::insert_into(outbox_event::table)
                    .values(rows)
                    .execute(c)
                    .map(drop))
            })
        })
        .await;
        ids
    }

    async fn settle(&self, ids: &[EventId], outcome: FinalOutcome, at: Timestamp) {
        let ids = ids.to_vec();
        self.run(move |conn| {
            use outbox_settled as s;
            ids.iter().try_for_each(|id| {
                let row = (
                    s::id.eq(id),
                    s::outcome.eq(outcome),
                    s::attempt.eq(1),
                    s::settled_us.eq(at),
                    s::consumer.eq("product-service"),
                );
                on!(&mut *conn, c => diesel::insert_into(s::table).values(row).execute(c).map(drop))
            })
        })
        .await;
    }

    async fn commands(&self, keys: &[&str]) -> Vec<EventId> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let ids = self.events("command", &keys).await;
        self.settle(&ids, FinalOutcome::Success, START).await;
        ids
    }

    async fn begin(&self) -> i64 {
        self.begin_after("1-1800000000", Some(START)).await
    }

    async fn begin_after(&self, restoration: &str, since: Option<Timestamp>) -> i64 {
        let lost = self.lost.clone();
        let loss = NewLoss {
            service: "product-service".to_owned(),
            restoration: restoration.to_owned(),
            since,
        };
        self.run(move |conn| lost.begin(conn, loss)).await
    }

    fn receiver_lost(&self, ids: &[EventId]) {
        *self.receiver.lock().unwrap() = Receiver::Without(ids.to_vec(), None);
    }

    /// Steps until the check has ended, or waits for something.
    async fn check(&self) -> LostCheck {
        for _ in 0..20 {
            self.clock.advance(Duration::from_secs(10));
            if !self.lost.run_once().await.unwrap().open {
                break;
            }
        }
        self.run(model::latest_check).await.unwrap()
    }

    async fn states(&self) -> Vec<(String, State)> {
        let rows = self.run(|conn| page(conn, None, None, 5_000)).await;
        rows.into_iter().map(|row| (row.key, row.state)).collect()
    }

    async fn alerts(&self) -> Vec<String> {
        let open = alert::table.filter(alert::closed_us.is_null()).select(alert::subject);
        self.run(move |conn| on!(conn, c => open.load(c))).await
    }

    async fn decide(&self, selection: Selection, verdict: Verdict) -> Result<Decided, String> {
        let lost = self.lost.clone();
        let decide =
            move |conn: &mut Conn| match lost.decide(conn, &ada(), selection, verdict, None) {
                Err(DecideError::Query(error)) => Err(error),
                other => Ok(other.map_err(|error| error.to_string())),
            };
        self.run(decide).await
    }
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
