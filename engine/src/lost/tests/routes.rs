#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use actix_web::web;
use common::clock::ManualClock;
use common::db::{DbError, ENGINE_MIGRATIONS};
use common::schema::inbox;
use serde_json::json;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::http::{self, TestResponse};
use stockloop_tests::on_every_database;

use super::*;
use crate::retention::note_forgotten;

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

on_every_database!(
    receiver => a_receiver_says_what_it_does_not_know, what_makes_no_sense_is_refused,
);

struct ReceiverFixture {
    losses: Losses,
    _database: TestDatabase,
}

fn receiver(database: TestDatabase) -> ReceiverFixture {
    let losses = Losses {
        service: "product-service".to_owned(),
        db: database.open(&[ENGINE_MIGRATIONS]),
        env: Env::seeded(Arc::new(ManualClock::at(START)), 3),
        inbox: Some(Duration::from_secs(3_600)),
        lost: None,
    };
    ReceiverFixture { losses, _database: database }
}

impl ReceiverFixture {
    async fn post(&self, path: &str, body: serde_json::Value) -> TestResponse {
        let request = http::request("POST", &format!("/api/v1/replica/{path}"), &[]);
        let losses = self.losses.clone();
        let app = move |app: &mut ServiceConfig| {
            app.service(web::scope("/api/v1").configure(configure(losses)));
        };
        http::send(app, request.set_json(body)).await
    }
}

async fn a_receiver_says_what_it_does_not_know(fixture: ReceiverFixture) {
    let (known, lost) = (fixture.losses.env.event_id(), fixture.losses.env.event_id());
    let insert = move |conn: &mut Conn| {
        let row = (
            inbox::event_id.eq(known),
            inbox::outcome.eq(0_i16),
            inbox::event_type.eq("command"),
            inbox::key.eq("A"),
            inbox::processed_us.eq(START),
        );
        Ok(on!(conn, c => diesel::insert_into(inbox::table).values(row).execute(c))?)
    };
    fixture.losses.db.write::<_, DbError>(insert).await.unwrap();
    let answer = fixture.post("received", json!({"ids": [known, lost]})).await.ok();
    assert_eq!(answer["unknown"], json!([lost]));
    assert_eq!(answer["known_from"], json!(START.before(Duration::from_secs(3_600))));
    // Retention was shorter once.
    let forgotten = START.before(Duration::from_secs(60));
    let note = move |conn: &mut Conn| Ok(note_forgotten(conn, INBOX, forgotten.micros())?);
    fixture.losses.db.write::<_, DbError>(note).await.unwrap();
    let answer = fixture.post("received", json!({"ids": [lost]})).await.ok();
    assert_eq!(answer["known_from"], json!(forgotten));
}

async fn what_makes_no_sense_is_refused(fixture: ReceiverFixture) {
    assert_eq!(fixture.post("received", json!({"ids": []})).await.status, 422);
    let many: Vec<EventId> = (0..=PAGE).map(|_| fixture.losses.env.event_id()).collect();
    assert_eq!(fixture.post("received", json!({"ids": many})).await.status, 422);
    assert_eq!(fixture.post("received", json!({"ids": ["x"]})).await.status.as_u16() / 100, 4);
    let loss = json!({"service": "product-service", "restoration": "1-1"});
    assert_eq!(fixture.post("losses", loss).await.status, 404, "it sends no commands");
}
