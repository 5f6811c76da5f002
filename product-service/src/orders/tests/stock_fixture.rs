//! A product-service with its inbox, without relay and broker; the test is the other service.

use std::sync::Arc;

use common::clock::Timestamp;
use common::db::DbError;
use common::event::Event;
use common::ids::EventId;
use common::orders::OrderId;
use common::telemetry::Spans;
use engine::inbox::{Control, Inbox};
use engine::kafka::{Ack, Envelope, Record, Signing, Verdict};
use engine::restored::ReadPositions;
use engine::retention::{self, Retention};
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;

use crate::inventory::Inventory;
use crate::inventory::tests::product_fixture::{ProductFixture, START};
use crate::orders::{OrderDeduction, OrderRecord, OrdersHandler, find};

pub(crate) struct StockFixture {
    pub(crate) products: ProductFixture,
    inbox: Inbox,
}

impl StockFixture {
    pub(crate) fn new(database: TestDatabase) -> Self {
        let products = ProductFixture::new(database);
        let Inventory { db, env, outbox, .. } = products.inventory.clone();
        let inbox = Inbox {
            db,
            spans: Spans::off(env.clone()),
            env,
            handler: Arc::new(OrdersHandler::new(outbox)),
            consumer: "product-service".to_owned(),
            control: Control::default(),
            positions: ReadPositions::new("product-service", "events"),
            signing: Signing::default(),
        };
        Self { products, inbox }
    }

    pub(crate) fn id(&self) -> EventId {
        self.products.inventory.env.event_id()
    }

    pub(crate) fn command(&self, kind: &str, order: OrderId, data: Value) -> Event {
        Event {
            id: self.id(),
            event_type: format!("stockloop.order.{kind}"),
            key: order.to_string(),
            epoch: 1,
            attempt: 1,
            time: START,
            traceparent: None,
            data: serde_json::to_vec(&data).unwrap(),
        }
    }

    pub(crate) fn placed(&self, order: OrderId, lines: &[(&str, i64)]) -> Event {
        let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let lines: Vec<Value> = lines.iter().map(line).collect();
        let data = json!({"order_id": order, "customer": "17850", "lines": lines,
            "placed_at": "2010-12-01T08:26:00Z"});
        self.command("placed", order, data)
    }

    pub(crate) fn cancelled(&self, order: OrderId) -> Event {
        let data = json!({"order_id": order, "cancelled_at": "2010-12-01T08:26:00Z"});
        self.command("cancelled", order, data)
    }

    /// Lets one batch arrive; returns the answers in the order of the commands.
    pub(crate) async fn arrive(&self, commands: Vec<Event>) -> Vec<Ack> {
        let records = commands.into_iter().zip(0..).map(|(event, offset)| {
            let envelope = Envelope { source: "/order-service".to_owned(), event };
            Record { offset, ..Record::from(envelope.into_message("orders", 0)) }
        });
        let applied = self.inbox.apply(records.collect::<Vec<_>>(), false).await.unwrap();
        assert_eq!(applied.unreadable, 0);
        applied.acks.into_iter().map(|(_, ack)| ack).collect()
    }

    /// One command's answer: verdict, detail and result.
    pub(crate) async fn one(&self, command: Event) -> (Verdict, String, Value) {
        contents(&self.arrive(vec![command]).await.remove(0))
    }

    /// Quantity and version of a product.
    pub(crate) async fn stock(&self, sku: &str) -> (i64, i64) {
        let rows = self.products.rows().await;
        let row = rows.iter().find(|row| row.sku.as_str() == sku).unwrap();
        (row.quantity, row.version)
    }

    pub(crate) async fn record(
        &self,
        order: OrderId,
    ) -> Option<(OrderRecord, Vec<OrderDeduction>)> {
        self.products
            .inventory
            .db
            .read(move |conn| find(conn, order).map_err(DbError::from))
            .await
            .unwrap()
    }

    /// Forgets every answer, as time does.
    pub(crate) async fn forget_answers(&self) {
        let limits = Retention { inbox: Timestamp::from_micros(i64::MAX), ..Retention::default() };
        assert!(retention::run_once(&self.products.inventory.db, limits).await.unwrap() > 0);
    }
}

/// What an answer says: verdict, detail (or error) and result.
pub(crate) fn contents(ack: &Ack) -> (Verdict, String, Value) {
    let result = ack.result.as_ref().map(|raw| serde_json::from_str(raw.get()).unwrap());
    let detail = ack.detail.clone().or(ack.error.clone()).unwrap_or_default();
    (ack.outcome, detail, result.unwrap_or_default())
}
