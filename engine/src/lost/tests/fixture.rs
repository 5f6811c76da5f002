#![allow(clippy::unwrap_used, reason = "tests")]

//! Commands, and a receiver that says what it does not know.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventRow};
use common::ids::EventId;
use common::on;
use common::schema::{alert, outbox_event, outbox_settled};
use diesel::prelude::*;
use serde_json::Value;
use stockloop_tests::database::TestDatabase;

use super::model;
use super::routes::{NewLoss, Received, ReceivedIds};
use super::{
    Commander, DecideError, Decided, Judgement, Lost, LostCheck, LostCommand, Selection, State,
    Verdict, page,
};
use crate::audit::{Actor, AuthMethod};
use crate::outbox::FinalOutcome;
use crate::peer::Peer;

pub(super) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// How the receiver answers.
#[derive(Debug, Clone)]
pub(super) enum Receiver {
    /// It knows all but these, and all from this moment on.
    Without(Vec<EventId>, Option<Timestamp>),
    Status(u16),
    Body(Value),
    Hangs,
}

#[derive(Debug, Default)]
pub(super) struct ToyCommander {
    pub(super) obsolete: Mutex<BTreeSet<String>>,
    pub(super) not_kept: Mutex<BTreeSet<String>>,
    pub(super) sent: Mutex<Vec<String>>,
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

pub(super) struct LostFixture {
    pub(super) clock: ManualClock,
    pub(super) lost: Lost,
    pub(super) commander: Arc<ToyCommander>,
    pub(super) receiver: Arc<Mutex<Receiver>>,
    pub(super) asked: Arc<Mutex<Vec<usize>>>,
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
    Peer::at("peer", &url, "", &String::new().into(), Duration::from_secs(1)).unwrap()
}

fn ada() -> Actor {
    Actor { name: "ada".to_owned(), method: AuthMethod::Session }
}

impl LostFixture {
    pub(super) fn new(database: TestDatabase) -> Self {
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

    pub(super) fn db(&self) -> &Db {
        &self.lost.db
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db().write::<_, DbError>(|conn| Ok(work(conn)?)).await.unwrap()
    }

    /// Appended events of a type, one for each key.
    pub(super) async fn events(&self, event_type: &str, keys: &[String]) -> Vec<EventId> {
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

    pub(super) async fn settle(&self, ids: &[EventId], outcome: FinalOutcome, at: Timestamp) {
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

    pub(super) async fn commands(&self, keys: &[&str]) -> Vec<EventId> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let ids = self.events("command", &keys).await;
        self.settle(&ids, FinalOutcome::Success, START).await;
        ids
    }

    pub(super) async fn begin(&self) -> i64 {
        self.begin_after("1-1800000000", Some(START)).await
    }

    pub(super) async fn begin_after(&self, restoration: &str, since: Option<Timestamp>) -> i64 {
        let lost = self.lost.clone();
        let loss = NewLoss {
            service: "product-service".to_owned(),
            restoration: restoration.to_owned(),
            since,
        };
        self.run(move |conn| lost.begin(conn, loss)).await
    }

    pub(super) fn receiver_lost(&self, ids: &[EventId]) {
        *self.receiver.lock().unwrap() = Receiver::Without(ids.to_vec(), None);
    }

    /// Steps until the check has ended, or waits for something.
    pub(super) async fn check(&self) -> LostCheck {
        for _ in 0..20 {
            self.clock.advance(Duration::from_secs(10));
            if !self.lost.run_once().await.unwrap().open {
                break;
            }
        }
        self.run(model::latest_check).await.unwrap()
    }

    pub(super) async fn states(&self) -> Vec<(String, State)> {
        let rows = self.run(|conn| page(conn, None, None, 5_000)).await;
        rows.into_iter().map(|row| (row.key, row.state)).collect()
    }

    pub(super) async fn alerts(&self) -> Vec<String> {
        let open = alert::table.filter(alert::closed_us.is_null()).select(alert::subject);
        self.run(move |conn| on!(conn, c => open.load(c))).await
    }

    pub(super) async fn decide(
        &self,
        selection: Selection,
        verdict: Verdict,
    ) -> Result<Decided, String> {
        let lost = self.lost.clone();
        let decide =
            move |conn: &mut Conn| match lost.decide(conn, &ada(), selection, verdict, None) {
                Err(DecideError::Query(error)) => Err(error),
                other => Ok(other.map_err(|error| error.to_string())),
            };
        self.run(decide).await
    }
}
