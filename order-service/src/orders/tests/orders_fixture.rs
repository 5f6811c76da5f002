//! An order-service of routes, handler, settler and a database, without broker; the test is the other service.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use common::clock::{ManualClock, Timestamp};
use common::db::{Conn, DatabaseSettings, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::http::Running;
use common::inbox::{ApplyError, Handler, Incoming};
use common::kafka::{Ack, AckBatch, Record, Verdict};
use common::on;
use common::outbox::{EventRow, Outbox, Policy, Settler, operate};
use common::retry::Backoff;
use common::schema::{outbox_event, outbox_open};
use common::signals::Signals;
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use tokio_util::sync::CancellationToken;

use crate::details::Details;
use crate::details::tests::peer::nobody;
use crate::inventory::{Inventory, InventoryHandler, MIGRATIONS};
use crate::orders::{Orders, OrdersListener};
use crate::routes;
use crate::schema::{product_copy, reservation};

pub(crate) struct Desk {
    pub(crate) orders: Orders,
    pub(crate) clock: ManualClock,
    settler: Settler,
    _place: Option<TestDatabase>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) const START: Timestamp = Timestamp::from_micros(1_291_191_960_000_000);

impl Desk {
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
        let (outbox, signals) = (Outbox::new(env.clone(), 2), Signals::default());
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
        };
        let outbox = outbox.with_listener(Some(listener));
        let running = Running::default();
        let stopping = CancellationToken::new();
        Self {
            orders: Orders { db, env, outbox, running, signals, stopping },
            clock,
            settler,
            _place: Some(place),
        }
    }

    /// Another instance on the same database.
    pub(crate) fn clone_with(&self, orders: Orders) -> Self {
        let (clock, settler) = (self.clock.clone(), self.settler.clone());
        Self { orders, clock, settler, _place: None }
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

    /// Lets one batch of inventory events arrive.
    pub(crate) async fn arrive(&self, events: Vec<Incoming>) {
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
    ) -> Incoming {
        let mut data = json!({"sku": sku, "description": "HEART", "quantity": quantity,
            "unit_price_minor": 255, "allow_backorder": sku.starts_with("BACK"), "removed": false,
            "version": version, "updated_at": "2010-12-01T08:25:58.500000Z"});
        if let Some(order) = order {
            data["cause"] = json!({"kind": "order", "reason": "placed", "reference": order});
        }
        Incoming {
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
    ) -> Response {
        let inventory = Inventory { db: self.orders.db.clone(), env: self.orders.env.clone() };
        let details = Details::new(&nobody(), self.orders.env.clone()).unwrap();
        let app = init_service(
            App::new()
                .app_data(web::Data::new(inventory))
                .app_data(web::Data::new(self.orders.clone()))
                .app_data(web::Data::new(details))
                .service(web::scope("/api/v1").configure(routes::configure)),
        )
        .await;
        let mut request = headers
            .iter()
            .fold(TestRequest::with_uri(&format!("/api/v1{path}")), |r, h| r.append_header(*h))
            .method(Method::from_bytes(method.as_bytes()).unwrap());
        if !body.is_null() {
            request = request.set_json(body);
        }
        let response = app.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await;
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
        Response { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], Value::Null).await
    }

    pub(crate) async fn place(&self, lines: &[(&str, i64)]) -> Response {
        self.send("POST", "/orders", &[], body(lines)).await
    }

    /// Places an order that is taken; returns its id.
    pub(crate) async fn placed(&self, lines: &[(&str, i64)]) -> String {
        let response = self.place(lines).await;
        assert_eq!(response.status, 201, "{response:?}");
        self.check_sums().await;
        response.body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn cancel(&self, id: &str) -> Response {
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
        };
        let acks = AckBatch { acks: answers.iter().map(ack).collect() };
        let record = Record {
            topic: "acks".to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            headers: Vec::new(),
            payload: Some(serde_json::to_vec(&acks).unwrap()),
        };
        let settled: Result<_, ApplyError> =
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
