//! The copy of the view through its batches and its route, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data};
use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use engine::dead_letters;
use engine::kafka::Record;
use engine::views::{CopiedView, Place, Taken, View, ViewCopy, ViewEntry, ViewMessage};
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::http::{self, TestResponse};
use stockloop_tests::on_every_database;

use super::{Purchases, PurchasesView, find};
use crate::routes;
use crate::schema::MIGRATIONS;

const TOPIC: &str = "purchases";

/// When the service's clock begins; messages are written a second before.
const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);

struct ViewFixture {
    copy: ViewCopy,
    clock: ManualClock,
    topic: Option<String>,
    _database: TestDatabase,
}

impl ViewFixture {
    fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let db = database.open(&[ENGINE_MIGRATIONS, MIGRATIONS]);
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let copied = CopiedView { topic: TOPIC.to_owned(), view: Arc::new(PurchasesView) };
        let copy = ViewCopy::new(db, env, copied);
        Self { copy, clock, topic: Some(TOPIC.to_owned()), _database: database }
    }

    async fn take(&self, records: Vec<Record>) -> Taken {
        self.copy.run_once(Arc::new(records)).await.unwrap()
    }

    async fn send(&self, method: &str, path: &str) -> TestResponse {
        let purchases = Purchases { db: self.copy.db.clone(), topic: self.topic.clone() };
        let mount = |config: &mut web::ServiceConfig| {
            config
                .app_data(Data::new(purchases))
                .service(web::scope("/api/v1").configure(routes::configure));
        };
        http::send(mount, http::request(method, &format!("/api/v1{path}"), &[])).await
    }

    async fn get(&self, customer: &str) -> TestResponse {
        self.send("GET", &format!("/customers/{customer}/purchases")).await
    }

    /// The version that the copy has of a customer.
    async fn version(&self, customer: &str) -> Option<i64> {
        let customer = customer.to_owned();
        let read = self.copy.db.read(move |conn| find(conn, &customer).map_err(DbError::from));
        read.await.unwrap().map(|row| row.version)
    }

    /// What the operators' page is told of a customer.
    async fn entry(&self, customer: &str) -> Option<ViewEntry> {
        let customer = customer.to_owned();
        let find =
            move |conn: &mut Conn| PurchasesView.find(conn, &customer).map_err(DbError::from);
        self.copy.db.read(find).await.unwrap()
    }

    async fn dead_letters(&self) -> i64 {
        let count = |conn: &mut Conn| dead_letters::count_waiting(conn).map_err(DbError::from);
        self.copy.db.read(count).await.unwrap()
    }
}

fn purchase(sale: &str) -> Value {
    json!({"sold_at": "2010-12-01T08:25:00.000000Z", "channel": "till", "sale_id": sale, "pieces": 6,
        "total_minor": 1530, "lines": [{"sku": "85123A", "quantity": 6, "unit_price_minor": 255}]})
}

fn record(offset: i64, customer: &str, value: Option<&str>) -> Record {
    Record {
        topic: TOPIC.to_owned(),
        offset,
        timestamp: Some(START.before(Duration::from_secs(1))),
        key: Some(customer.as_bytes().to_vec()),
        payload: value.map(|value| value.as_bytes().to_vec()),
        ..Record::default()
    }
}

fn message(offset: i64, customer: &str, version: i64) -> Record {
    let sale = format!("53636{version}");
    let value = json!({"customer": customer, "version": version, "purchases": [purchase(&sale)]});
    record(offset, customer, Some(&value.to_string()))
}

async fn the_last_purchases_of_a_customer_are_told(fixture: &ViewFixture) {
    fixture.get("17850").await.assert_problem(404, "not-found", "id");
    let taken = fixture.take(vec![message(0, "17850", 1), message(1, "17850", 2)]).await;
    assert_eq!((taken.taken, taken.refused), (2, 0));
    fixture.clock.advance(Duration::from_secs(60));
    let answer = fixture.get("17850").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.body,
        json!({"customer": "17850", "version": 2, "purchases": [purchase("536362")],
            "as_of": "2010-12-01T08:25:59.000000Z", "stored_at": "2010-12-01T08:26:00.000000Z",
            "view": {"behind": null, "checked_at": null}})
    );
    let entry = fixture.entry("17850").await.unwrap();
    let told: Value = serde_json::from_str(&entry.value).unwrap();
    assert_eq!(told, answer.body["purchases"]);
    let written_at = START.before(Duration::from_secs(1));
    assert_eq!((entry.written_at, entry.stored_at), (written_at, START));
    assert_eq!(fixture.entry("17851").await, None);
    assert_eq!(fixture.send("HEAD", "/customers/17850/purchases").await.status, 200);
    let answer = fixture.send("PUT", "/customers/17850/purchases").await;
    answer.assert_problem(405, "method-not-allowed", "");
    fixture.get("%00").await.assert_problem(422, "invalid", "id");
}

async fn what_comes_again_or_late_changes_nothing(fixture: &ViewFixture) {
    fixture.take(vec![message(4, "A", 2), message(5, "B", 1)]).await;
    let taken =
        fixture.take(vec![message(3, "A", 1), message(5, "B", 1), message(6, "C", 1)]).await;
    assert_eq!((taken.taken, taken.repeating), (1, BTreeSet::from([0])));
    assert_eq!(fixture.version("A").await, Some(2));
    assert_eq!(fixture.version("C").await, Some(1));
}

async fn a_message_without_a_value_takes_its_customer_out(fixture: &ViewFixture) {
    fixture.take(vec![message(0, "17850", 1)]).await;
    fixture.take(vec![record(1, "17850", None)]).await;
    fixture.get("17850").await.assert_problem(404, "not-found", "id");
    assert_eq!(fixture.entry("17850").await, None);
    fixture.take(vec![message(0, "17850", 1)]).await;
    assert_eq!(fixture.version("17850").await, Some(0), "what is left of it");
    fixture.take(vec![message(2, "17850", 3)]).await;
    assert_eq!(fixture.get("17850").await.body["version"], 3);
}

async fn what_makes_no_sense_stops_nothing(fixture: &ViewFixture) {
    let other = json!({"customer": "B", "version": 1, "purchases": []}).to_string();
    let large = "x".repeat(2 * 1024 * 1024);
    let batch = vec![
        message(0, "A", 1),
        record(1, "A", Some("printer out of paper")),
        record(2, "A", Some(&other)),
        record(3, "A", Some(&large)),
        record(4, "", Some(&other)),
        message(5, "B", 1),
    ];
    let taken = fixture.take(batch.clone()).await;
    assert_eq!((taken.taken, taken.refused), (6, 4));
    fixture.take(batch).await;
    assert_eq!(fixture.dead_letters().await, 4, "each once");
    assert_eq!((fixture.version("A").await, fixture.version("B").await), (Some(1), Some(1)));
}

/// Two instances may have one partition for a moment, and a topic that was made anew has smaller offsets.
async fn in_whatever_order_messages_are_written_the_last_one_counts(fixture: &ViewFixture) {
    for turn in 0..4_usize {
        let mut order = [0_i64, 1, 2, 3];
        order.rotate_left(turn);
        for n in order {
            let record = message(5 - n, &format!("{turn}-{}", n % 2), n + 1);
            let place = Place { begun: Timestamp::from_micros(n / 2), offset: record.offset };
            let write = move |conn: &mut Conn| {
                let message = ViewMessage { place, record: &record };
                let refused = PurchasesView.write(conn, START, &[message])?;
                assert!(refused.is_empty(), "{refused:?}");
                Ok::<_, DbError>(())
            };
            fixture.copy.db.write(write).await.unwrap();
        }
        for n in [0, 1] {
            assert_eq!(fixture.version(&format!("{turn}-{n}")).await, Some(n + 3), "{turn}");
        }
    }
}

on_every_database!(&ViewFixture::new =>
    the_last_purchases_of_a_customer_are_told,
    what_comes_again_or_late_changes_nothing,
    a_message_without_a_value_takes_its_customer_out,
    what_makes_no_sense_stops_nothing,
    in_whatever_order_messages_are_written_the_last_one_counts,
);

#[actix_web::test]
async fn a_service_that_keeps_no_copy_says_so() {
    let fixture = ViewFixture { topic: None, ..ViewFixture::new(TestDatabase::sqlite()) };
    let answer = fixture.get("17850").await;
    answer.assert_problem(404, "not-found", "");
    assert!(answer.body["detail"].as_str().unwrap().contains("views.purchases_topic"));
}
