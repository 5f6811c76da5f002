//! An order-service of handler, routes and a database, without broker.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use common::clock::{ManualClock, Timestamp};
use common::db::{DatabaseSettings, Db, ENGINE_MIGRATIONS};
use common::env::Env;
use common::inbox::{Answer, ApplyError, Detail, Handler, Incoming};
use common::inventory::Sku;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;

use crate::details::Details;
use crate::details::tests::peer::nobody;
use crate::inventory::{Inventory, InventoryHandler, MIGRATIONS, ProductCopy, find};
use crate::routes;

pub(crate) struct Replica {
    pub(crate) inventory: Inventory,
    /// Asks a closed port until a test puts another in its place.
    pub(crate) details: RefCell<Details>,
    pub(crate) clock: ManualClock,
    _place: TestDatabase,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// When the source's clock begins.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);

impl Replica {
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
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let details = RefCell::new(Details::new(&nobody(), env.clone()).unwrap());
        Self { inventory: Inventory { db, env }, details, clock, _place: place }
    }

    /// Applies one batch in one transaction, as the engine does.
    pub(crate) async fn apply(&self, events: Vec<Incoming>) -> Vec<Answer> {
        let now = self.inventory.env.now();
        let answers: Result<_, ApplyError> =
            self.inventory.db.write(move |conn| InventoryHandler.apply(conn, now, &events)).await;
        answers.unwrap()
    }

    /// An event about `sku` as its source would send it.
    pub(crate) fn event(&self, sku: &str, epoch: i64, version: i64) -> Incoming {
        self.event_of(sku, epoch, snapshot(sku, version))
    }

    pub(crate) fn event_of(&self, key: &str, epoch: i64, data: Value) -> Incoming {
        let removed = data["removed"] == true;
        let kind = if removed { "removed" } else { "changed" };
        Incoming {
            id: self.inventory.env.event_id(),
            event_type: format!("stockloop.inventory.{kind}"),
            key: key.to_owned(),
            epoch,
            attempt: 1,
            time: START,
            traceparent: None,
            data: serde_json::to_vec(&data).unwrap(),
        }
    }

    pub(crate) async fn copy(&self, sku: &str) -> Option<ProductCopy> {
        let sku = Sku::parse(sku).unwrap();
        self.inventory
            .db
            .read(move |conn| find(conn, &sku).map_err(common::db::DbError::from))
            .await
            .unwrap()
    }

    /// Epoch, version and quantity of the copy.
    pub(crate) async fn state(&self, sku: &str) -> (i64, i64, i64) {
        let copy = self.copy(sku).await.unwrap();
        (copy.epoch, copy.version, copy.quantity)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let details = self.details.borrow().clone();
        let app = init_service(
            App::new()
                .app_data(web::Data::new(self.inventory.clone()))
                .app_data(web::Data::new(details))
                .service(web::scope("/api/v1").configure(routes::configure)),
        )
        .await;
        let request = headers
            .iter()
            .fold(TestRequest::with_uri(&format!("/api/v1{path}")), |request, header| {
                request.append_header(*header)
            })
            .method(Method::from_bytes(method.as_bytes()).unwrap());
        let response = app.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Response { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[]).await
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this status and kind, about this field.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, name: &str, field: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("urn:stockloop:problem:{name}"));
        let named = self.body["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{self:?}");
    }
}

/// The data of an event; the quantity is ten times the version.
pub(crate) fn snapshot(sku: &str, version: i64) -> Value {
    json!({"sku": sku, "description": "HEART", "quantity": version.saturating_mul(10), "unit_price_minor": 255,
        "allow_backorder": false, "removed": false, "version": version,
        "updated_at": "2010-12-01T08:25:58.500000Z",
        "cause": {"kind": "adjustment", "reason": "sale", "reference": "536365"}})
}

/// The data of a removal.
pub(crate) fn tombstone(sku: &str, version: i64) -> Value {
    let mut data = snapshot(sku, version);
    data["removed"] = json!(true);
    data["quantity"] = json!(0);
    data
}

pub(crate) fn applied(version: i64) -> Answer {
    success(Detail::Applied, version)
}

pub(crate) fn superseded(version: i64) -> Answer {
    success(Detail::Superseded, version)
}

fn success(detail: Detail, version: i64) -> Answer {
    Answer::Success { detail, version: Some(version), result: None }
}
