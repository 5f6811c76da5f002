//! An order-service of handler, routes and a database, without broker.

use std::cell::RefCell;
use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use common::clock::{ManualClock, Timestamp};
use common::db::{DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::Event;
use common::inventory::Sku;
use engine::batch::BatchError;
use engine::inbox::{Detail, Handler, HandlerOutcome};
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::http::{self, TestResponse};

use crate::details::DetailsClient;
use crate::details::tests::stub_peer::unreachable_peer;
use crate::inventory::{Inventory, InventoryHandler, ProductCopy, find};
use crate::routes;
use crate::schema::MIGRATIONS;

pub(crate) struct CopyFixture {
    pub(crate) inventory: Inventory,
    /// Asks a closed port until a test puts another in its place.
    pub(crate) details: RefCell<DetailsClient>,
    pub(crate) clock: ManualClock,
    _database: TestDatabase,
}

/// When the source's clock begins.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);

impl CopyFixture {
    pub(crate) fn new(database: TestDatabase) -> Self {
        let db = database.open(&[ENGINE_MIGRATIONS, MIGRATIONS]);
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let details = RefCell::new(DetailsClient::new(&unreachable_peer(), env.clone()).unwrap());
        Self { inventory: Inventory { db, env }, details, clock, _database: database }
    }

    /// What there is of the copy under `/api/v1`.
    fn mount(&self, config: &mut ServiceConfig) {
        config
            .app_data(Data::new(self.inventory.clone()))
            .app_data(Data::new(self.details.borrow().clone()))
            .service(web::scope("/api/v1").configure(routes::configure));
    }

    /// Applies one batch in one transaction, as the engine does.
    pub(crate) async fn apply(&self, events: Vec<Event>) -> Vec<HandlerOutcome> {
        let now = self.inventory.env.now();
        let results: Result<_, BatchError> =
            self.inventory.db.write(move |conn| InventoryHandler.apply(conn, now, &events)).await;
        results.unwrap()
    }

    /// An event about `sku` as its source would send it.
    pub(crate) fn event(&self, sku: &str, epoch: i64, version: i64) -> Event {
        self.event_of(sku, epoch, snapshot(sku, version))
    }

    pub(crate) fn event_of(&self, key: &str, epoch: i64, data: Value) -> Event {
        let removed = data["removed"] == true;
        let kind = if removed { "removed" } else { "changed" };
        Event {
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
        self.inventory.db.read(move |conn| find(conn, &sku).map_err(DbError::from)).await.unwrap()
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
    ) -> TestResponse {
        let request = http::request(method, &format!("/api/v1{path}"), headers);
        http::send(|config| self.mount(config), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, &[]).await
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

pub(crate) fn applied(version: i64) -> HandlerOutcome {
    success(Detail::Applied, version)
}

pub(crate) fn superseded(version: i64) -> HandlerOutcome {
    success(Detail::Superseded, version)
}

fn success(detail: Detail, version: i64) -> HandlerOutcome {
    HandlerOutcome::Success { detail, version: Some(version), result: None }
}
