//! A product-service with its inbox, without relay and broker; the test is the other service.

use common::clock::Timestamp;
use common::db::DbError;
use common::ids::EventId;
use common::inbox::{Inbox, Incoming};
use common::kafka::{Ack, Envelope, Record, Verdict};
use common::orders::OrderId;
use common::retention;
use serde_json::{Value, json};

use crate::inventory::tests::shop::Shop;
use crate::orders::{Deducted, OrderRecord, OrdersHandler, find};

pub(crate) struct Store {
    pub(crate) shop: Shop,
    pub(crate) inbox: Inbox,
}

impl Store {
    pub(crate) fn sqlite() -> Self {
        Self::over(Shop::sqlite())
    }

    pub(crate) fn postgres() -> Option<Self> {
        Shop::postgres().map(Self::over)
    }

    fn over(shop: Shop) -> Self {
        let inventory = &shop.inventory;
        let handler = std::sync::Arc::new(OrdersHandler::new(inventory.outbox.clone()));
        let inbox =
            Inbox::new(inventory.db.clone(), inventory.env.clone(), handler, "product-service");
        Self { shop, inbox }
    }

    pub(crate) fn id(&self) -> EventId {
        self.shop.inventory.env.event_id()
    }

    pub(crate) fn command(&self, kind: &str, order: OrderId, data: Value) -> Incoming {
        Incoming {
            id: self.id(),
            event_type: format!("stockloop.order.{kind}"),
            key: order.to_string(),
            epoch: 1,
            attempt: 1,
            time: Timestamp::from_micros(1_291_191_960_000_000),
            traceparent: None,
            data: serde_json::to_vec(&data).unwrap(),
        }
    }

    pub(crate) fn placed(&self, order: OrderId, lines: &[(&str, i64)]) -> Incoming {
        let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let lines: Vec<Value> = lines.iter().map(line).collect();
        let data = json!({"order_id": order, "customer": "17850", "lines": lines,
            "placed_at": "2010-12-01T08:26:00Z"});
        self.command("placed", order, data)
    }

    pub(crate) fn cancelled(&self, order: OrderId) -> Incoming {
        let data = json!({"order_id": order, "cancelled_at": "2010-12-01T08:26:00Z"});
        self.command("cancelled", order, data)
    }

    /// Lets one batch arrive; returns the answers in the order of the commands.
    pub(crate) async fn arrive(&self, commands: Vec<Incoming>) -> Vec<Ack> {
        let records = commands.into_iter().zip(0..).map(|(event, offset)| {
            let envelope = Envelope { source: "/order-service".to_owned(), event };
            let message = envelope.into_message("orders", 0);
            let header = |(name, value): (&str, String)| (name.to_owned(), value.into_bytes());
            Record {
                topic: "orders".to_owned(),
                partition: 0,
                offset,
                key: None,
                headers: message.headers.into_iter().map(header).collect(),
                payload: Some(message.payload),
            }
        });
        let applied = self.inbox.apply(records.collect(), false).await.unwrap();
        assert_eq!(applied.unreadable, 0);
        applied.acks.into_iter().map(|(_, ack)| ack).collect()
    }

    /// One command's answer: verdict, detail and result.
    pub(crate) async fn one(&self, command: Incoming) -> (Verdict, String, Value) {
        told(&self.arrive(vec![command]).await.remove(0))
    }

    /// Quantity and version of a product.
    pub(crate) async fn stock(&self, sku: &str) -> (i64, i64) {
        let rows = self.shop.rows().await;
        let row = rows.iter().find(|row| row.sku.as_str() == sku).unwrap();
        (row.quantity, row.version)
    }

    pub(crate) async fn record(&self, order: OrderId) -> Option<(OrderRecord, Vec<Deducted>)> {
        self.shop
            .inventory
            .db
            .read(move |conn| find(conn, order).map_err(DbError::from))
            .await
            .unwrap()
    }

    /// Forgets every answer, as time does.
    pub(crate) async fn forget_answers(&self) {
        let limits = retention::Retention {
            inbox: Timestamp::from_micros(i64::MAX),
            ..retention::Retention::default()
        };
        assert!(retention::run_once(&self.shop.inventory.db, limits).await.unwrap() > 0);
    }
}

pub(crate) fn told(ack: &Ack) -> (Verdict, String, Value) {
    let result = ack.result.as_ref().map(|raw| serde_json::from_str(raw.get()).unwrap());
    let detail = ack.detail.clone().or(ack.error.clone()).unwrap_or_default();
    (ack.outcome, detail, result.unwrap_or_default())
}
