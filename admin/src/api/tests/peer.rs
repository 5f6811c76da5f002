use std::net::TcpListener;
use std::sync::Arc;

use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use common::config::PeerSettings;
use common::db::Conn;
use common::event::Event;
use common::http::Access;
use common::ids::EventId;
use common::on;
use common::schema::inbox;
use diesel::prelude::*;
use engine::batch::BatchError;
use engine::dead_letters::{DeadLetter, store};
use engine::inbox::{CopyVersion, Handler, HandlerOutcome, quarantine};
use engine::kafka::Record;
use engine::peer::{self, InboxViews, Peer};
use engine::verify::Remote;
use secrecy::SecretString;
use serde_json::json;
use stockloop_tests::on_every_database;

use super::fixture::{AdminFixture, Is};

on_every_database!(AdminFixture::new =>
    the_other_side_tells_what_it_knows,
    an_honest_answer_when_nobody_answers,
    each_consumer_is_asked,
);

/// A service that holds one version of everything.
struct Shelf;

impl Handler for Shelf {
    fn is_command(&self, _: &str) -> bool {
        false
    }

    fn apply(
        &self,
        _: &mut Conn,
        _: common::clock::Timestamp,
        _: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        Ok(Vec::new())
    }

    fn copy_version(&self, _: &mut Conn, key: &str) -> QueryResult<Option<CopyVersion>> {
        Ok((key == "A").then_some(CopyVersion { epoch: 1, version: 7 }))
    }
}

impl AdminFixture {
    /// Serves this service's side of the peer's questions, and makes this service its own peer.
    fn face_itself(&mut self, token: &'static str, shown: &str) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let settings = PeerSettings {
            url: format!("http://{}", listener.local_addr().unwrap()),
            api_token: SecretString::from(shown),
            timeout: std::time::Duration::from_secs(5),
            ..self.engine.settings.peer.clone()
        };
        let views = InboxViews {
            service: self.engine.settings.service.name.clone(),
            db: self.db.clone(),
            handler: Some(Arc::new(Shelf)),
        };
        let access = Access::new(&SecretString::from(token), "api");
        let server = HttpServer::new(move || {
            App::new().service(
                web::scope("/api/v1")
                    .configure(peer::configure(views.clone()))
                    .wrap(from_fn(move |request, next| access.guard(request, next))),
            )
        });
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        tokio::spawn(server);
        self.asks("order-service", &settings);
    }

    /// Asks the consumer with this name as `settings` say.
    fn asks(&mut self, consumer: &str, settings: &PeerSettings) {
        let peer = Peer::new(settings).unwrap();
        let remote = Remote {
            consumer: consumer.to_owned(),
            peer: peer.clone(),
            section: "peer".to_owned(),
            timeout: settings.timeout,
        };
        let mut remotes = (*self.engine.remotes).clone();
        remotes.insert(consumer.to_owned(), remote);
        self.engine.remotes = Arc::new(remotes);
        self.engine.peer = peer;
    }

    async fn arrived(&self, id: EventId) {
        let row = (
            inbox::event_id.eq(id),
            inbox::outcome.eq(0_i16),
            inbox::detail.eq("applied"),
            inbox::version.eq(6_i64),
            inbox::event_type.eq("stockloop.inventory.changed"),
            inbox::key.eq("A"),
            inbox::processed_us.eq(self.env.now()),
        );
        self.write(
            move |conn| on!(conn, c => diesel::insert_into(inbox::table).values(row).execute(c)),
        )
        .await;
    }
}

async fn the_other_side_tells_what_it_knows(mut fixture: AdminFixture) {
    fixture.face_itself("s3cret", "s3cret");
    let (known, unknown) =
        (fixture.event("A", 1, Is::Sent).await, fixture.event("B & co", 1, Is::Sent).await);
    fixture.arrived(known).await;
    let (now, id) = (fixture.env.now(), unknown.to_string());
    fixture
        .write(move |conn| {
            let row = quarantine::QuarantineRow {
                key: "B & co".to_owned(),
                reason: "bad".to_owned(),
                since_us: now,
                by_whom: "x".to_owned(),
            };
            quarantine::put(conn, &row)?;
            let record = Record {
                topic: "t".to_owned(),
                headers: vec![("ce_id".to_owned(), id.into_bytes())],
                ..Record::default()
            };
            store(conn, &DeadLetter::of(&record, "no data", now))
        })
        .await;
    let seen = fixture.get(&format!("/events/{known}/peer")).await.body;
    assert_eq!(seen["reachable"], true, "{seen}");
    assert_eq!(seen["service"], "product-service");
    assert_eq!(
        (&seen["inbox"]["outcome"], &seen["inbox"]["version"]),
        (&json!("SUCCESS"), &json!(6))
    );
    assert_eq!(seen["copy"], json!({ "epoch": 1, "version": 7 }));
    assert_eq!((&seen["quarantine"], &seen["dead_letters"]), (&json!(null), &json!([])));
    let seen = fixture.get(&format!("/events/{unknown}/peer")).await.body;
    assert_eq!((&seen["inbox"], &seen["copy"]), (&json!(null), &json!(null)));
    assert_eq!(seen["quarantine"], json!({ "reason": "bad", "since": now.to_string() }));
    assert_eq!(seen["dead_letters"], json!(["1"]));
}

async fn each_consumer_is_asked(mut fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Sent).await;
    fixture.arrived(id).await;
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let settings = PeerSettings { url, ..fixture.engine.settings.peer.clone() };
    fixture.asks("search-service", &settings);
    fixture.face_itself("s3cret", "s3cret");
    let seen = fixture.get(&format!("/events/{id}/peers")).await.body;
    let (order, search) = (&seen["items"][0], &seen["items"][1]);
    assert_eq!((&order["consumer"], &order["reachable"]), (&json!("order-service"), &json!(true)));
    assert_eq!(order["copy"], json!({ "epoch": 1, "version": 7 }));
    assert_eq!(
        (&search["consumer"], &search["reachable"]),
        (&json!("search-service"), &json!(false))
    );
    let reason = search["reason"].as_str().unwrap();
    assert!(reason.starts_with("search-service did not answer within"), "{reason}");
    assert_eq!(fixture.get(&format!("/events/{id}/peer")).await.body, *order);
    let stranger = fixture.env.event_id();
    fixture.get(&format!("/events/{stranger}/peers")).await.is_problem(404, "");
}

async fn an_honest_answer_when_nobody_answers(mut fixture: AdminFixture) {
    let id = fixture.event("A", 1, Is::Sent).await;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let settings =
        PeerSettings { url: format!("http://{nobody}"), ..fixture.engine.settings.peer.clone() };
    fixture.asks("order-service", &settings);
    let seen = fixture.get(&format!("/events/{id}/peer")).await;
    assert_eq!((seen.status, &seen.body["reachable"]), (200, &json!(false)));
    let reason = seen.body["reason"].as_str().unwrap();
    assert!(reason.contains("can't be reached") && reason.contains("refused"), "{reason}");
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    fixture.asks("order-service", &PeerSettings { url, ..settings });
    let seen = fixture.get(&format!("/events/{id}/peer")).await.body;
    assert!(seen["reason"].as_str().unwrap().contains("within 300ms"), "{seen}");
    fixture.face_itself("s3cret", "wrong");
    let seen = fixture.get(&format!("/events/{id}/peer")).await.body;
    assert!(seen["reason"].as_str().unwrap().contains("peer.api_token"), "{seen}");
    let stranger = fixture.env.event_id();
    fixture.get(&format!("/events/{stranger}/peer")).await.is_problem(404, "");
}
