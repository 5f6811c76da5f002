//! An order-service of routes, handler, settler and a database, without broker; the test is the other service.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use common::clock::ManualClock;
use common::copy_state;
use common::db::{Conn, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{Event, EventRow};
use common::http::KeysInProgress;
use common::on;
use common::retry::Backoff;
use common::schema::{outbox_event, outbox_open};
use common::signals::Signals;
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::batch::BatchError;
use engine::inbox::Handler;
use engine::kafka::{Ack, AckBatch, Record, Signing, Verdict};
use engine::outbox::{FirstAttempts, Outbox, Policy, Settler, operate};
use engine::restored::ReadPositions;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::http::{self, TestResponse};
use tokio_util::sync::CancellationToken;

use crate::details::DetailsClient;
use crate::details::tests::stub_peer::unreachable_peer;
use crate::inventory::tests::copy_fixture::START;
use crate::inventory::{Inventory, InventoryHandler};
use crate::orders::{Orders, OrdersListener};
use crate::routes::{self, OrderLanes};
use crate::schema::{MIGRATIONS, product_copy, reservation};

pub(crate) struct OrdersFixture {
    pub(crate) orders: Orders,
    lanes: Data<OrderLanes>,
    pub(crate) clock: ManualClock,
    settler: Settler,
    _database: TestDatabase,
}

impl OrdersFixture {
    pub(crate) fn new(database: TestDatabase) -> Self {
        let db = database.open(&[ENGINE_MIGRATIONS, MIGRATIONS]);
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 1);
        let outbox = Outbox::new(env.clone(), 2, Spans::off(env.clone()));
        let signals = Signals::default();
        let listener = Arc::new(OrdersListener::new(outbox.clone(), signals.clone()));
        let policy = Policy {
            backoff: Backoff { base: Duration::ZERO, max: Duration::ZERO },
            listener: Some(listener.clone()),
        };
        let settler = Settler {
            env: env.clone(),
            policy,
            topic: "orders".to_owned(),
            consumer: "product-service".to_owned(),
            positions: ReadPositions::new("order-service", "acks"),
            owner: None,
            first_attempts: FirstAttempts::Ours,
            signing: Signing::default(),
        };
        let outbox = outbox.with_listener(Some(listener));
        let (keys, stopping) = (KeysInProgress::default(), CancellationToken::new());
        let orders = Orders { db, env, outbox, keys, signals, stopping };
        let lanes = Data::new(routes::order_lanes(&orders));
        Self { orders, lanes, clock, settler, _database: database }
    }

    pub(crate) async fn write<T: Send + 'static, E>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    ) -> T
    where
        E: From<DbError> + From<diesel::result::Error> + std::fmt::Debug + Send + 'static,
    {
        self.orders.db.write(work).await.unwrap()
    }

    /// Makes the copy complete.
    pub(crate) async fn complete_copy(&self) {
        self.write(|conn| {
            let copy = copy_state::read(conn)?.unwrap();
            let done = copy_state::complete(conn, &copy.copy_id, START, "its owner")?;
            assert!(done);
            Ok::<_, DbError>(())
        })
        .await;
    }

    /// Lets one batch of inventory events arrive.
    pub(crate) async fn arrive(&self, events: Vec<Event>) {
        let now = self.orders.env.now();
        self.write(move |conn| InventoryHandler.apply(conn, now, &events)).await;
        self.check_sums().await;
    }

    /// An inventory event; `order` is the order that it comes from.
    pub(crate) fn state(
        &self,
        sku: &str,
        version: i64,
        quantity: i64,
        order: Option<&str>,
    ) -> Event {
        let mut data = json!({"sku": sku, "description": "HEART", "quantity": quantity,
            "unit_price_minor": 255, "allow_backorder": sku.starts_with("BACK"), "removed": false,
            "version": version, "updated_at": "2010-12-01T08:25:58.500000Z"});
        if let Some(order) = order {
            data["cause"] = json!({"kind": "order", "reason": "placed", "reference": order});
        }
        Event {
            id: self.orders.env.event_id(),
            event_type: "stockloop.inventory.changed".to_owned(),
            key: sku.to_owned(),
            epoch: 1,
            attempt: 1,
            time: START,
            traceparent: None,
            data: serde_json::to_vec(&data).unwrap(),
        }
    }

    pub(crate) async fn stock(&self, sku: &str, quantity: i64) {
        self.arrive(vec![self.state(sku, 1, quantity, None)]).await;
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> TestResponse {
        Self::send_to(&self.orders, &self.lanes, method, path, headers, body).await
    }

    /// Sends to an instance of the service that has these `orders`.
    pub(crate) async fn send_to(
        orders: &Orders,
        lanes: &Data<OrderLanes>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> TestResponse {
        let request = http::request(method, &format!("/api/v1{path}"), headers);
        let request = if body.is_null() { request } else { request.set_json(body) };
        http::send(|config| mount(config, orders, lanes), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, &[], Value::Null).await
    }

    pub(crate) async fn place(&self, lines: &[(&str, i64)]) -> TestResponse {
        self.send("POST", "/orders", &[], body(lines)).await
    }

    /// Places an order that is taken; returns its id.
    pub(crate) async fn placed(&self, lines: &[(&str, i64)]) -> String {
        let response = self.place(lines).await;
        assert_eq!(response.status, 201, "{response:?}");
        self.check_sums().await;
        response.body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn cancel(&self, id: &str) -> TestResponse {
        self.send("POST", &format!("/orders/{id}/cancel"), &[], Value::Null).await
    }

    pub(crate) async fn order(&self, id: &str) -> Value {
        self.get(&format!("/orders/{id}")).await.body
    }

    pub(crate) async fn status(&self, id: &str) -> String {
        self.order(id).await["status"].as_str().unwrap().to_owned()
    }

    /// What happened to an order, with the status from then on.
    pub(crate) async fn timeline(&self, id: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let order = self.order(id).await;
        let steps = order["timeline"].as_array().unwrap();
        steps.iter().map(|step| (text(&step["what"]), text(&step["status"]))).collect()
    }

    /// Quantity, reserved and available as GET shows them.
    pub(crate) async fn copy(&self, sku: &str) -> (i64, i64, i64) {
        let view = self.get(&format!("/inventory/{sku}")).await.body;
        let number = |name: &str| view[name].as_i64().unwrap();
        (number("quantity"), number("reserved"), number("available"))
    }

    /// All commands, in the order in which they were made.
    pub(crate) async fn commands(&self) -> Vec<EventRow> {
        self.write(|conn| {
            on!(conn, c => outbox_event::table
                .order(outbox_event::id)
                .select(EventRow::as_select())
                .load(c))
            .map_err(DbError::from)
        })
        .await
    }

    pub(crate) async fn open_commands(&self) -> i64 {
        self.write(|conn| {
            on!(conn, c => outbox_open::table.count().get_result(c)).map_err(DbError::from)
        })
        .await
    }

    /// The answers of product-service, in one batch: to which command, with what.
    pub(crate) async fn answers(&self, answers: &[(&EventRow, Verdict, Value)]) {
        let ack = |(command, outcome, result): &(&EventRow, Verdict, Value)| Ack {
            event_id: command.id,
            attempt: 1,
            outcome: *outcome,
            detail: None,
            error: (*outcome == Verdict::Failed).then(|| "no such shelf".to_owned()),
            retryable: false,
            version: None,
            result: (!result.is_null()).then(|| serde_json::value::to_raw_value(result).unwrap()),
            consumer: "product-service".to_owned(),
            processed_at: START,
            traceparent: None,
            partition: None,
            offset: None,
        };
        let acks = AckBatch { acks: answers.iter().map(ack).collect() };
        let record = Record {
            topic: "acks".to_owned(),
            payload: Some(serde_json::to_vec(&acks).unwrap()),
            ..Record::default()
        };
        let settled: Result<_, BatchError> =
            self.settler.settle(&self.orders.db, vec![record], false).await;
        assert_eq!(settled.unwrap().unreadable, 0);
        self.orders.outbox.wake();
        self.check_sums().await;
    }

    pub(crate) async fn answer(&self, command: &EventRow, outcome: Verdict, result: Value) {
        self.answers(&[(command, outcome, result)]).await;
    }

    pub(crate) async fn retry(&self, command: &EventRow) {
        let (outbox, id) = (self.orders.outbox.clone(), command.id);
        self.write(move |conn| operate::retry(conn, &outbox, id, 1, "night shift", None)).await;
        self.orders.outbox.wake();
    }

    pub(crate) async fn resolve(&self, command: &EventRow) {
        let (outbox, id) = (self.orders.outbox.clone(), command.id);
        self.write(move |conn| operate::resolve(conn, &outbox, id, "night shift", "by phone"))
            .await;
        self.orders.outbox.wake();
        self.check_sums().await;
    }

    /// What each copy says to be reserved is the sum of its reservations.
    pub(crate) async fn check_sums(&self) {
        type Pieces = Vec<(String, i64)>;
        let (copies, rows): (Pieces, Pieces) = self
            .write(|conn| {
                let copies = on!(conn, c => product_copy::table
                    .select((product_copy::sku, product_copy::reserved))
                    .load(c))?;
                let rows = on!(conn, c => reservation::table
                    .select((reservation::sku, reservation::quantity))
                    .load(c))?;
                Ok::<_, DbError>((copies, rows))
            })
            .await;
        for (sku, reserved) in copies {
            let sum: i64 = rows.iter().filter(|(of, _)| *of == sku).map(|(_, n)| n).sum();
            assert_eq!(reserved, sum, "{sku}");
        }
    }
}

/// Everything that an instance with these `orders` has under `/api/v1`.
fn mount(config: &mut ServiceConfig, orders: &Orders, lanes: &Data<OrderLanes>) {
    let inventory = Inventory { db: orders.db.clone(), env: orders.env.clone() };
    let details = DetailsClient::new(&unreachable_peer(), orders.env.clone()).unwrap();
    config
        .app_data(Data::new(inventory))
        .app_data(Data::new(orders.clone()))
        .app_data(lanes.clone())
        .app_data(Data::new(details))
        .service(web::scope("/api/v1").configure(routes::configure));
}

/// The body of an order.
pub(crate) fn body(lines: &[(&str, i64)]) -> Value {
    let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
    json!({"customer": "17850", "lines": lines.iter().map(line).collect::<Vec<_>>()})
}

/// The result of a placing's SUCCESS.
pub(crate) fn deducted(versions: &[(&str, i64)]) -> Value {
    let versions: serde_json::Map<String, Value> =
        versions.iter().map(|(sku, version)| ((*sku).to_owned(), json!(version))).collect();
    json!({"epoch": 1, "versions": versions})
}

/// The result of REJECTED.
pub(crate) fn refused(sku: &str) -> Value {
    json!({"lines": [{"sku": sku, "reason": "insufficient_stock", "detail": "it has 2"}]})
}
