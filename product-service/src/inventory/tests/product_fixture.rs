//! A product-service of routes and a database, without relay and broker.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use common::clock::{ManualClock, Timestamp};
use common::db::{DatabaseSettings, Db, ENGINE_MIGRATIONS};
use common::env::Env;
use common::http::Running;
use common::on;
use common::outbox::{EventRow, Outbox};
use common::schema::{outbox_event, outbox_open};
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;

use crate::inventory::{Inventory, MIGRATIONS, Product};
use crate::routes;
use crate::schema::{adjustment, product};

pub(crate) struct Shop {
    pub(crate) inventory: Inventory,
    pub(crate) clock: ManualClock,
    _place: TestDatabase,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) type AdjustmentRow = (String, i64, i64, i64, String, Option<String>);

impl Shop {
    pub(crate) fn sqlite() -> Self {
        Self::over(TestDatabase::sqlite())
    }

    pub(crate) fn postgres() -> Option<Self> {
        TestDatabase::postgres().map(Self::over)
    }

    fn over(place: TestDatabase) -> Self {
        let db = Db::open(&DatabaseSettings {
            url: place.url().into(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(10),
        })
        .unwrap();
        db.migrate(&[ENGINE_MIGRATIONS, MIGRATIONS]).unwrap();
        let clock = ManualClock::at(Timestamp::from_micros(1_291_191_960_000_000));
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let inventory =
            Inventory { db, outbox: Outbox::new(env.clone(), 5), env, running: Running::default() };
        Self { inventory, clock, _place: place }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut all = headers.to_vec();
        if body.is_null() {
            return self.send_bytes(method, path, &all, Vec::new()).await;
        }
        all.push((CONTENT_TYPE.as_str(), "application/json"));
        let bytes = serde_json::to_vec(&body).unwrap();
        self.send_bytes(method, path, &all, bytes).await
    }

    pub(crate) async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let app = init_service(
            App::new()
                .app_data(web::Data::new(self.inventory.clone()))
                .service(web::scope("/api/v1").configure(routes::configure)),
        )
        .await;
        let request = headers
            .iter()
            .fold(TestRequest::with_uri(&format!("/api/v1{path}")), |r, h| r.append_header(*h))
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .set_payload(body);
        let response = app.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Value::Null).await
    }

    pub(crate) async fn put(&self, sku: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        self.send("PUT", &format!("/inventory/{sku}"), headers, body).await
    }

    pub(crate) async fn adjust(&self, sku: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let path = format!("/inventory/{sku}/adjustments");
        self.send("POST", &path, headers, body).await
    }

    pub(crate) async fn batch(&self, headers: &[(&str, &str)], lines: Value) -> Answer {
        let body = json!({ "lines": lines });
        self.send("POST", "/adjustments", headers, body).await
    }

    pub(crate) async fn delete(&self, sku: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("DELETE", &format!("/inventory/{sku}"), headers, Value::Null).await
    }

    /// Puts `sku` in with this stock, without backorders.
    pub(crate) async fn stock(&self, sku: &str, quantity: i64) {
        let answer = self.put(sku, &[], content(quantity)).await;
        assert!(answer.status.is_success(), "{answer:?}");
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
                Ok::<_, common::db::DbError>((events, open))
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

    pub(crate) async fn adjustments(&self) -> Vec<AdjustmentRow> {
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
        query: impl FnOnce(&mut common::db::Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.inventory.db.read(|conn| query(conn).map_err(common::db::DbError::from)).await.unwrap()
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this status and kind, about this field.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, name: &str, field: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("urn:stockloop:problem:{name}"));
        assert_eq!(self.body["status"], status);
        let named = self.body["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{self:?}");
    }
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

/// A batch's line.
pub(crate) fn line(sku: &str, delta: i64) -> Value {
    json!({"sku": sku, "delta": delta, "reason": "sale"})
}
