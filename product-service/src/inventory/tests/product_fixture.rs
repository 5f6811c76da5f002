//! A product-service of routes and a database, without relay and broker.

use std::sync::Arc;

use actix_web::test::TestRequest;
use actix_web::web::{self, Data, ServiceConfig};
use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::EventRow;
use common::http::KeysInProgress;
use common::on;
use common::schema::{outbox_event, outbox_open};
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::outbox::Outbox;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::http::{self, TestResponse};

use crate::inventory::{Inventory, Product};
use crate::orders::Orders;
use crate::routes::{self, ProductLanes};
use crate::schema::{MIGRATIONS, adjustment, product};

pub(crate) const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);

pub(crate) struct ProductFixture {
    pub(crate) inventory: Inventory,
    lanes: Data<ProductLanes>,
    pub(crate) clock: ManualClock,
    _database: TestDatabase,
}

/// SKU, delta, quantity and version after it, reason and reference.
pub(crate) type KeptAdjustment = (String, i64, i64, i64, String, Option<String>);

impl ProductFixture {
    pub(crate) fn new(database: TestDatabase) -> Self {
        let db = database.open(&[ENGINE_MIGRATIONS, MIGRATIONS]);
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let outbox = Outbox::new(env.clone(), 5, Spans::off(env.clone()));
        let inventory = Inventory { db, env, outbox, keys: KeysInProgress::default() };
        let lanes = Data::new(routes::product_lanes(&inventory));
        Self { inventory, lanes, clock, _database: database }
    }

    /// Everything that the service has under `/api/v1`.
    fn mount(&self, config: &mut ServiceConfig) {
        config
            .app_data(Data::new(self.inventory.clone()))
            .app_data(self.lanes.clone())
            .app_data(Data::new(Orders { db: self.inventory.db.clone() }))
            .service(web::scope("/api/v1").configure(routes::configure));
    }

    pub(crate) async fn call(&self, request: TestRequest) -> TestResponse {
        http::send(|config| self.mount(config), request).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> TestResponse {
        let request = request(method, path, headers);
        self.call(if body.is_null() { request } else { request.set_json(body) }).await
    }

    pub(crate) async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> TestResponse {
        self.call(request(method, path, headers).set_payload(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, &[], Value::Null).await
    }

    pub(crate) async fn put(
        &self,
        sku: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> TestResponse {
        self.send("PUT", &format!("/inventory/{sku}"), headers, body).await
    }

    pub(crate) async fn adjust(
        &self,
        sku: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> TestResponse {
        let path = format!("/inventory/{sku}/adjustments");
        self.send("POST", &path, headers, body).await
    }

    pub(crate) async fn batch(&self, headers: &[(&str, &str)], lines: Value) -> TestResponse {
        let body = json!({ "lines": lines });
        self.send("POST", "/adjustments", headers, body).await
    }

    pub(crate) async fn delete(&self, sku: &str, headers: &[(&str, &str)]) -> TestResponse {
        self.send("DELETE", &format!("/inventory/{sku}"), headers, Value::Null).await
    }

    /// Puts `sku` in with this stock, without backorders.
    pub(crate) async fn stock(&self, sku: &str, quantity: i64) {
        let answer = self.put(sku, &[], content(quantity)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Gives a product a SKU that no new one could have.
    pub(crate) async fn rename(&self, from: &'static str, to: &'static str) {
        let rename = move |conn: &mut Conn| {
            on!(conn, c => diesel::update(product::table.find(from))
                .set(product::sku.eq(to))
                .execute(c))
        };
        let renamed: Result<usize, DbError> =
            self.inventory.db.write(move |conn| rename(conn).map_err(DbError::from)).await;
        assert_eq!(renamed.unwrap(), 1);
    }

    /// All events, in the order in which they were made; each is open.
    pub(crate) async fn events(&self) -> Vec<EventRow> {
        let (events, open): (Vec<EventRow>, i64) = self
            .inventory
            .db
            .read(|conn| {
                let events = on!(conn, c => outbox_event::table
                    .order(outbox_event::id)
                    .select(EventRow::as_select())
                    .load(c))?;
                let open = on!(conn, c => outbox_open::table.count().get_result(c))?;
                Ok::<_, DbError>((events, open))
            })
            .await
            .unwrap();
        assert_eq!(usize::try_from(open).unwrap(), events.len());
        events
    }

    /// The payloads of all events.
    pub(crate) async fn payloads(&self) -> Vec<Value> {
        let events = self.events().await;
        events.iter().map(|event| serde_json::from_str(&event.payload).unwrap()).collect()
    }

    pub(crate) async fn rows(&self) -> Vec<Product> {
        self.load(|conn| {
            on!(conn, c => product::table
                .order(product::sku)
                .select(Product::as_select())
                .load(c))
        })
        .await
    }

    pub(crate) async fn adjustments(&self) -> Vec<KeptAdjustment> {
        self.load(|conn| {
            on!(conn, c => adjustment::table
                .order(adjustment::seq)
                .select((
                    adjustment::sku,
                    adjustment::delta,
                    adjustment::quantity,
                    adjustment::version,
                    adjustment::reason,
                    adjustment::reference,
                ))
                .load(c))
        })
        .await
    }

    async fn load<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.inventory.db.read(|conn| query(conn).map_err(DbError::from)).await.unwrap()
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> TestRequest {
    http::request(method, &format!("/api/v1{path}"), headers)
}

/// A PUT's body.
pub(crate) fn content(quantity: i64) -> Value {
    json!({"description": "HEART", "quantity": quantity, "unit_price_minor": 255})
}

/// A PUT's body, with backorders.
pub(crate) fn backorders(quantity: i64) -> Value {
    json!({"description": "HEART", "quantity": quantity, "unit_price_minor": 255, "allow_backorder": true})
}

/// An adjustment's body.
pub(crate) fn delta(delta: i64) -> Value {
    json!({"delta": delta, "reason": "sale"})
}

/// A line of a batch.
pub(crate) fn line(sku: &str, delta: i64) -> Value {
    json!({"sku": sku, "delta": delta, "reason": "sale"})
}
