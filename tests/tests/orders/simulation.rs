//! Both services and the network between them, and a plain model of what has to come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::clock::ManualClock;
use common::event::Status as EventStatus;
use common::http::{GroupedChange, Precondition, Problem};
use common::inventory::Sku;
use common::on;
use common::orders::OrderId;
use common::signals::Signals;
use diesel::prelude::*;
use engine::kafka::Record;
use order_service::inventory::{InventoryHandler, ProductCopy};
use order_service::orders::{
    self, CancelOrder, Order, OrderRow, OrderStatus, OrdersListener, PlaceOrder, PlaceOutcome,
};
use product_service::inventory::{
    self as stock, ChangeKind, ChangeOutcome, Product, ProductChange,
};
use product_service::orders::{OrderDeduction, OrderRecord, OrderState, OrdersHandler};
use serde_json::json;

use super::service_under_test::{START, ServiceUnderTest};

/// The products of each simulation, with what is in stock at first.
pub(crate) const PRODUCTS: [(&str, i64); 3] = [("A", 6), ("B", 3), ("C", 0)];

/// What was asked for and taken; says what has to come out in the end.
#[derive(Default)]
struct ShopModel {
    stock: BTreeMap<String, i64>,
    orders: BTreeMap<OrderId, ExpectedOrder>,
}

struct ExpectedOrder {
    lines: BTreeMap<String, i64>,
    cancelled: bool,
    /// Whether its placing was resolved by an operator, which cancels it.
    given_up: bool,
}

/// Both services, what is under way between them, and the model.
pub(crate) struct LoopSimulation {
    clock: ManualClock,
    product: ServiceUnderTest,
    order: ServiceUnderTest,
    /// Messages under way: events to product-service and order-service, then answers to order-service and
    /// product-service.
    links: [Vec<Record>; 4],
    model: ShopModel,
}

/// Everything that both databases say of the orders and the stock.
struct DatabaseState {
    products: Vec<Product>,
    records: BTreeMap<OrderId, OrderRecord>,
    deductions: Vec<OrderDeduction>,
    copies: Vec<ProductCopy>,
    orders: BTreeMap<OrderId, Order>,
}

impl LoopSimulation {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at(START);
        let product = ServiceUnderTest::open(
            "product-service",
            "order-service",
            product_service::schema::MIGRATIONS,
            &clock,
            |outbox| (Arc::new(OrdersHandler::new(outbox.clone())), None),
        );
        let order = ServiceUnderTest::open(
            "order-service",
            "product-service",
            order_service::schema::MIGRATIONS,
            &clock,
            |outbox| {
                let listener = OrdersListener::new(outbox.clone(), Signals::default());
                (Arc::new(InventoryHandler), Some(Arc::new(listener)))
            },
        );
        let (links, model) = (Default::default(), ShopModel::default());
        let mut simulation = Self { clock, product, order, links, model };
        for (sku, quantity) in PRODUCTS {
            simulation.put(sku, quantity).await;
        }
        simulation.drain().await;
        simulation
    }

    fn stock_context(&self) -> stock::WriteContext {
        stock::WriteContext {
            outbox: self.product.outbox.clone(),
            now: self.product.env.now(),
            traceparent: None,
        }
    }

    async fn put(&mut self, sku: &str, quantity: i64) {
        let content = json!({"description": "", "quantity": quantity, "unit_price_minor": 1});
        let change = ProductChange {
            sku: Sku::parse(sku).unwrap(),
            precondition: Precondition::default(),
            kind: ChangeKind::Put(serde_json::from_value(content).unwrap()),
        };
        let context = self.stock_context();
        let put = self.product.write(move |conn| {
            let alone = GroupedChange { change: &change, traceparent: None };
            stock::change_group(conn, &context, &[alone]).map_err(|error| Problem::internal(&error))
        });
        assert!(matches!(put.await.unwrap()[..], [ChangeOutcome::Created(_)]));
        self.model.stock.insert(sku.to_owned(), quantity);
    }

    pub(crate) async fn adjust(&mut self, sku: &str, delta: i64) {
        let lines = json!([{"sku": sku, "delta": delta, "reason": "count"}]);
        let (context, lines) = (self.stock_context(), serde_json::from_value(lines).unwrap());
        let adjusted = self
            .product
            .write(move |conn| stock::adjust_batch(conn, &context, lines).map_err(Problem::from));
        let (_, outcome) = adjusted.await.unwrap().remove(0);
        if outcome.is_ok() {
            *self.model.stock.get_mut(sku).unwrap() += delta;
        }
    }

    fn order_context(&self) -> orders::WriteContext {
        orders::WriteContext {
            env: self.order.env.clone(),
            outbox: self.order.outbox.clone(),
            signals: Signals::default(),
            now: self.order.env.now(),
            traceparent: None,
        }
    }

    pub(crate) async fn place(&mut self, lines: &[(&str, i64)]) {
        let list: Vec<_> =
            lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let wanted: PlaceOrder =
            serde_json::from_value(json!({"customer": "c", "lines": list})).unwrap();
        let context = self.order_context();
        let placed = self.order.write(move |conn| {
            let alone = GroupedChange { change: &wanted, traceparent: None };
            orders::place_group(conn, &context, &[alone]).map_err(Problem::from)
        });
        if let PlaceOutcome::Placed(order) = placed.await.unwrap().remove(0) {
            let mut expected =
                ExpectedOrder { lines: BTreeMap::new(), cancelled: false, given_up: false };
            for (sku, quantity) in lines {
                *expected.lines.entry((*sku).to_owned()).or_default() += quantity;
            }
            self.model.orders.insert(order.row.id, expected);
        }
    }

    pub(crate) async fn cancel(&mut self, pick: usize) {
        let ids: Vec<OrderId> = self.model.orders.keys().copied().collect();
        let Some(id) = pick.checked_rem(ids.len()).and_then(|place| ids.get(place)).copied() else {
            return;
        };
        let context = self.order_context();
        let cancelled = self.order.write(move |conn| {
            orders::cancel(conn, &context, id, &CancelOrder::default()).map_err(Problem::from)
        });
        if cancelled.await.is_ok() {
            self.model.orders.get_mut(&id).unwrap().cancelled = true;
        }
    }

    /// Sends all that is open, whether it was sent before or not.
    pub(crate) async fn send(&mut self) {
        self.links[0].extend(self.order.messages().await);
        self.links[1].extend(self.product.messages().await);
    }

    /// Delivers some messages of a link in one batch, from anywhere in it; `twice` leaves them on the link too.
    pub(crate) async fn deliver(&mut self, link: usize, picks: &[usize], twice: bool) {
        let mut batch = Vec::new();
        for pick in picks {
            if let Some(place) = pick.checked_rem(self.links[link].len()) {
                batch.push(self.links[link].remove(place));
            }
        }
        if twice {
            self.links[link].extend(batch.clone());
        }
        if batch.is_empty() {
            return;
        }
        match link {
            0 => {
                let answers = self.product.receive(batch).await;
                self.links[2].push(answers);
            }
            1 => {
                let answers = self.order.receive(batch).await;
                self.links[3].push(answers);
            }
            2 => self.order.settle(batch).await,
            _ => self.product.settle(batch).await,
        }
    }

    pub(crate) fn lose(&mut self, link: usize, pick: usize) {
        if let Some(place) = pick.checked_rem(self.links[link].len()) {
            self.links[link].remove(place);
        }
    }

    /// A command is answered FAILED for good: its order needs attention.
    pub(crate) async fn fail(&mut self, pick: usize) {
        let open = self.order.open_events().await;
        let pending: Vec<_> =
            open.iter().filter(|(open, _)| open.status == EventStatus::Pending).collect();
        if let Some(place) = pick.checked_rem(pending.len()) {
            self.order.receive_failure(&pending[place].0).await;
        }
    }

    /// An operator retries what is EXHAUSTED, or resolves the placing of an order, which gives that up.
    pub(crate) async fn handle_exhausted(&mut self, give_up: bool) {
        for (open, event) in self.order.open_events().await {
            if open.status != EventStatus::Exhausted || open.resolved_us.is_some() {
                continue;
            }
            let placing = event.event_type == common::orders::PLACED.name;
            let resolve = give_up && placing;
            self.order.operate(&open, !resolve).await;
            if resolve {
                let id: OrderId = event.key.parse().unwrap();
                self.model.orders.get_mut(&id).unwrap().given_up = true;
            }
        }
    }

    pub(crate) fn restart(&mut self) {
        self.product.restart();
        self.order.restart();
    }

    pub(crate) async fn clear_inboxes(&mut self) {
        self.product.clear_inbox().await;
        self.order.clear_inbox().await;
    }

    pub(crate) fn tick(&self) {
        self.clock.advance(Duration::from_millis(7));
    }

    /// The network and everybody behind it are well again: everything arrives.
    pub(crate) async fn drain(&mut self) {
        for _ in 0..20 {
            self.handle_exhausted(false).await;
            self.links[0..2].iter_mut().for_each(Vec::clear);
            self.send().await;
            for link in 0..4 {
                let all = vec![0; self.links[link].len()];
                self.deliver(link, &all, false).await;
            }
            let open = self.order.open_events().await;
            let open = open.iter().filter(|(open, _)| open.resolved_us.is_none()).count();
            if open + self.product.open_events().await.len() == 0 {
                return;
            }
        }
        panic!("the backlog does not drain");
    }

    async fn read_state(&self) -> DatabaseState {
        use order_service::schema::{orders as orders_table, product_copy};
        use product_service::schema::{order_deduction, order_record, product};
        let (products, records, deductions) = self
            .product
            .read(|conn| {
                Ok((
                    on!(conn, c => product::table.select(Product::as_select()).load(c))?,
                    on!(conn, c => order_record::table.select(OrderRecord::as_select()).load(c))?,
                    on!(conn, c => order_deduction::table.select(OrderDeduction::as_select()).load(c))?,
                ))
            })
            .await;
        let (copies, found) = self
            .order
            .read(|conn| {
                let copies: Vec<ProductCopy> = on!(conn, c => product_copy::table
                    .select(ProductCopy::as_select())
                    .load(c))?;
                let rows: Vec<OrderRow> =
                    on!(conn, c => orders_table::table.select(OrderRow::as_select()).load(c))?;
                let mut found = Vec::new();
                for row in rows {
                    found.extend(orders::find(conn, row.id)?);
                }
                Ok((copies, found))
            })
            .await;
        let records: Vec<OrderRecord> = records;
        DatabaseState {
            products,
            records: records.into_iter().map(|record| (record.id, record)).collect(),
            deductions,
            copies,
            orders: found.into_iter().map(|order| (order.row.id, order)).collect(),
        }
    }

    /// What has to hold at every moment.
    pub(crate) async fn check_invariants(&self) {
        let state = self.read_state().await;
        for product in &state.products {
            assert!(product.quantity >= 0, "{product:?} is below zero");
            assert_eq!(product.quantity, self.expected_stock(&state, product.sku.as_str()));
        }
        assert_eq!(state.orders.len(), self.model.orders.len(), "an order is lost");
        for copy in &state.copies {
            let unseen = unseen(&state, copy);
            assert!(
                copy.reserved >= unseen,
                "{}: {} reserved, but {unseen} are promised and not in the copy",
                copy.sku,
                copy.reserved
            );
        }
    }

    /// What there was, what adjustments did, less what orders hold: whatever the owner says of versions.
    fn expected_stock(&self, state: &DatabaseState, sku: &str) -> i64 {
        let holds = |id: &OrderId| {
            state.records.get(id).is_some_and(|record| record.state == OrderState::Deducted)
        };
        let held: i64 = self
            .model
            .orders
            .iter()
            .filter(|(id, _)| holds(id))
            .filter_map(|(_, wanted)| wanted.lines.get(sku))
            .sum();
        self.model.stock.get(sku).copied().unwrap_or(0) - held
    }

    /// What has to hold once everything has arrived.
    pub(crate) async fn check_final_state(&self) {
        self.check_invariants().await;
        let state = self.read_state().await;
        for (id, wanted) in &self.model.orders {
            let status = state.orders[id].row.status;
            let record = state.records.get(id).map(|record| record.state);
            let right = match status {
                OrderStatus::Confirmed => record == Some(OrderState::Deducted),
                OrderStatus::Rejected => record == Some(OrderState::Refused),
                OrderStatus::Cancelled => {
                    record == Some(OrderState::Returned) || record == Some(OrderState::Cancelled)
                }
                OrderStatus::Pending | OrderStatus::Cancelling | OrderStatus::NeedsAttention => {
                    false
                }
            };
            assert!(right, "the order {id} is {status}, and at its owner {record:?}");
            let is_over = wanted.cancelled || wanted.given_up;
            assert_eq!(
                status == OrderStatus::Cancelled,
                is_over && status != OrderStatus::Rejected,
                "{id}"
            );
        }
        for (product, copy) in state.products.iter().zip(&state.copies) {
            assert_eq!((&product.sku, product.quantity), (&copy.sku, copy.quantity));
            assert_eq!((product.version, copy.reserved), (copy.version, 0), "{}", copy.sku);
        }
    }
}

/// Pieces that were promised and that the copy does not show as taken, although they are or may be.
fn unseen(state: &DatabaseState, copy: &ProductCopy) -> i64 {
    let is_unseen = |order: &Order| match state.records.get(&order.row.id) {
        None => !order.row.status.is_final(),
        Some(_) => state.deductions.iter().any(|row| {
            row.order_id == order.row.id && row.sku == copy.sku && row.version > copy.version
        }),
    };
    let lines =
        state.orders.values().filter(|order| is_unseen(order)).flat_map(|order| &order.lines);
    lines.filter(|line| line.sku == copy.sku).map(|line| line.quantity).sum()
}
