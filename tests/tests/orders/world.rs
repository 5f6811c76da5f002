//! Both services and the network between them, and a plain model of what has to come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::clock::ManualClock;
use common::http::{Precondition, Problem};
use common::inventory::Sku;
use common::kafka::Record;
use common::on;
use common::orders::OrderId;
use common::outbox::Status as EventStatus;
use common::signals::Signals;
use diesel::prelude::*;
use order_service::inventory::{InventoryHandler, ProductCopy};
use order_service::orders::{self, Order, OrderRow, OrdersListener, Placing, Status, Writing};
use product_service::inventory::{self as stock, Changing, Product};
use product_service::orders::{Deducted, OrderRecord, OrdersHandler, State};
use serde_json::json;

use super::side::{START, Side};

/// The products of each world, with what is in stock at first.
pub(crate) const SHELVES: [(&str, i64); 3] = [("A", 6), ("B", 3), ("C", 0)];

/// What was asked for and taken; says what has to come out in the end.
#[derive(Default)]
struct Model {
    stock: BTreeMap<String, i64>,
    orders: BTreeMap<OrderId, Wanted>,
}

struct Wanted {
    lines: BTreeMap<String, i64>,
    cancelled: bool,
    /// Whether its placing was given up by a person, which cancels it.
    given_up: bool,
}

pub(crate) struct World {
    clock: ManualClock,
    product: Side,
    order: Side,
    /// Messages under way: events to the one and the other, then answers to the one and the other.
    wires: [Vec<Record>; 4],
    model: Model,
}

/// Everything that both databases say of the orders and the stock.
struct Seen {
    products: Vec<Product>,
    records: BTreeMap<OrderId, OrderRecord>,
    deducted: Vec<Deducted>,
    copies: Vec<ProductCopy>,
    orders: BTreeMap<OrderId, Order>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at(START);
        let product = Side::open(
            "product-service",
            "order-service",
            product_service::inventory::MIGRATIONS,
            &clock,
            |outbox| (Arc::new(OrdersHandler::new(outbox.clone())), None),
        );
        let order = Side::open(
            "order-service",
            "product-service",
            order_service::inventory::MIGRATIONS,
            &clock,
            |outbox| {
                let listener = OrdersListener::new(outbox.clone(), Signals::default());
                (Arc::new(InventoryHandler), Some(Arc::new(listener)))
            },
        );
        let mut world =
            Self { clock, product, order, wires: Default::default(), model: Model::default() };
        for (sku, quantity) in SHELVES {
            world.put(sku, quantity).await;
        }
        world.drain().await;
        world
    }

    fn changing(&self) -> Changing {
        Changing {
            outbox: self.product.outbox.clone(),
            now: self.product.env.now(),
            traceparent: None,
        }
    }

    async fn put(&mut self, sku: &str, quantity: i64) {
        let content = json!({"description": "", "quantity": quantity, "unit_price_minor": 1});
        let content = serde_json::from_value(content).unwrap();
        let (changing, key) = (self.changing(), Sku::parse(sku).unwrap());
        let put = self.product.write(move |conn| {
            stock::put(conn, &changing, &key, content, &Precondition::default())
                .map_err(Problem::from)
        });
        put.await.unwrap();
        self.model.stock.insert(sku.to_owned(), quantity);
    }

    pub(crate) async fn adjust(&mut self, sku: &str, delta: i64) {
        let adjustment =
            serde_json::from_value(json!({"delta": delta, "reason": "count"})).unwrap();
        let (changing, key) = (self.changing(), Sku::parse(sku).unwrap());
        let adjusted = self.product.write(move |conn| {
            stock::adjust(conn, &changing, &key, adjustment, &Precondition::default())
                .map_err(Problem::from)
        });
        if adjusted.await.is_ok() {
            *self.model.stock.get_mut(sku).unwrap() += delta;
        }
    }

    fn writing(&self) -> Writing {
        Writing {
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
        let placing: Placing =
            serde_json::from_value(json!({"customer": "c", "lines": list})).unwrap();
        let writing = self.writing();
        let placed = self.order.write(move |conn| {
            orders::place(conn, &writing, &placing)
                .map_err(|error| error.into_problem(placing.lines.as_slice()))
        });
        if let Ok(order) = placed.await {
            let mut wanted = Wanted { lines: BTreeMap::new(), cancelled: false, given_up: false };
            for (sku, quantity) in lines {
                *wanted.lines.entry((*sku).to_owned()).or_default() += quantity;
            }
            self.model.orders.insert(order.row.id, wanted);
        }
    }

    pub(crate) async fn cancel(&mut self, pick: usize) {
        let ids: Vec<OrderId> = self.model.orders.keys().copied().collect();
        let Some(id) = pick.checked_rem(ids.len()).and_then(|place| ids.get(place)).copied() else {
            return;
        };
        let writing = self.writing();
        let cancelled = self.order.write(move |conn| {
            orders::cancel(conn, &writing, id, &orders::Cancelling::default())
                .map_err(Problem::from)
        });
        if cancelled.await.is_ok() {
            self.model.orders.get_mut(&id).unwrap().cancelled = true;
        }
    }

    /// Sends all that waits, whether it was sent before or not.
    pub(crate) async fn send(&mut self) {
        self.wires[0].extend(self.order.messages().await);
        self.wires[1].extend(self.product.messages().await);
    }

    /// Lets some messages of a wire arrive in one batch, from anywhere in it; `twice` leaves them on the wire too.
    pub(crate) async fn deliver(&mut self, wire: usize, picks: &[usize], twice: bool) {
        let mut batch = Vec::new();
        for pick in picks {
            if let Some(place) = pick.checked_rem(self.wires[wire].len()) {
                batch.push(self.wires[wire].remove(place));
            }
        }
        if twice {
            self.wires[wire].extend(batch.clone());
        }
        if batch.is_empty() {
            return;
        }
        match wire {
            0 => {
                let answers = self.product.arrive(batch).await;
                self.wires[2].push(answers);
            }
            1 => {
                let answers = self.order.arrive(batch).await;
                self.wires[3].push(answers);
            }
            2 => self.order.settle(batch).await,
            _ => self.product.settle(batch).await,
        }
    }

    pub(crate) fn lose(&mut self, wire: usize, pick: usize) {
        if let Some(place) = pick.checked_rem(self.wires[wire].len()) {
            self.wires[wire].remove(place);
        }
    }

    /// A command is answered FAILED for good: its order needs attention.
    pub(crate) async fn fail(&mut self, pick: usize) {
        let waiting = self.order.waiting().await;
        let sound: Vec<_> =
            waiting.iter().filter(|(open, _)| open.status() == EventStatus::Pending).collect();
        if let Some(place) = pick.checked_rem(sound.len()) {
            self.order.fail(&sound[place].0).await;
        }
    }

    /// A person retries what gave up, or gives the placing of an order up.
    pub(crate) async fn attend(&mut self, gives_up: bool) {
        for (open, event) in self.order.waiting().await {
            if open.status() != EventStatus::Exhausted || open.resolved_us.is_some() {
                continue;
            }
            let placing = event.event_type == common::orders::PLACED.name;
            let resolves = gives_up && placing;
            self.order.operate(&open, !resolves).await;
            if resolves {
                let id: OrderId = event.key.parse().unwrap();
                self.model.orders.get_mut(&id).unwrap().given_up = true;
            }
        }
    }

    pub(crate) fn restart(&mut self) {
        self.product.restart();
        self.order.restart();
    }

    pub(crate) async fn forget(&mut self) {
        self.product.forget_answers().await;
        self.order.forget_answers().await;
    }

    pub(crate) fn tick(&self) {
        self.clock.advance(Duration::from_millis(7));
    }

    /// The network and everybody behind it are well again: everything arrives.
    pub(crate) async fn drain(&mut self) {
        for _ in 0..20 {
            self.attend(false).await;
            self.wires[0..2].iter_mut().for_each(Vec::clear);
            self.send().await;
            for wire in 0..4 {
                let all = vec![0; self.wires[wire].len()];
                self.deliver(wire, &all, false).await;
            }
            let open = self.order.waiting().await;
            let open = open.iter().filter(|(open, _)| open.resolved_us.is_none()).count();
            if open + self.product.waiting().await.len() == 0 {
                return;
            }
        }
        panic!("the backlog does not drain");
    }

    async fn look(&self) -> Seen {
        use order_service::schema::{orders as orders_table, product_copy};
        use product_service::schema::{order_deduction, order_record, product};
        let (products, records, deducted) = self
            .product
            .read(|conn| {
                Ok((
                    on!(conn, c => product::table.select(Product::as_select()).load(c))?,
                    on!(conn, c => order_record::table.select(OrderRecord::as_select()).load(c))?,
                    on!(conn, c => order_deduction::table.select(Deducted::as_select()).load(c))?,
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
        Seen {
            products,
            records: records.into_iter().map(|record| (record.id, record)).collect(),
            deducted,
            copies,
            orders: found.into_iter().map(|order| (order.row.id, order)).collect(),
        }
    }

    /// What has to hold at every moment.
    pub(crate) async fn check_always(&self) {
        let seen = self.look().await;
        for product in &seen.products {
            assert!(product.quantity >= 0, "{product:?} is below zero");
            assert_eq!(product.quantity, self.stock_by_model(&seen, product.sku.as_str()));
        }
        assert_eq!(seen.orders.len(), self.model.orders.len(), "an order is lost");
        for copy in &seen.copies {
            let unseen = unseen(&seen, copy);
            assert!(
                copy.reserved >= unseen,
                "{}: {} reserved, but {unseen} are promised and not in the copy",
                copy.sku,
                copy.reserved
            );
        }
    }

    /// What there was, what adjustments did, less what orders hold: whatever the owner says of versions.
    fn stock_by_model(&self, seen: &Seen, sku: &str) -> i64 {
        let holds = |id: &OrderId| {
            seen.records.get(id).is_some_and(|record| record.state == State::Deducted)
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
    pub(crate) async fn check_in_the_end(&self) {
        self.check_always().await;
        let seen = self.look().await;
        for (id, wanted) in &self.model.orders {
            let status = seen.orders[id].row.status;
            let state = seen.records.get(id).map(|record| record.state);
            let right = match status {
                Status::Confirmed => state == Some(State::Deducted),
                Status::Rejected => state == Some(State::Refused),
                Status::Cancelled => {
                    state == Some(State::Returned) || state == Some(State::Cancelled)
                }
                Status::Pending | Status::Cancelling | Status::NeedsAttention => false,
            };
            assert!(right, "the order {id} is {status}, and at its owner {state:?}");
            let is_over = wanted.cancelled || wanted.given_up;
            assert_eq!(status == Status::Cancelled, is_over && status != Status::Rejected, "{id}");
        }
        for (product, copy) in seen.products.iter().zip(&seen.copies) {
            assert_eq!((&product.sku, product.quantity), (&copy.sku, copy.quantity));
            assert_eq!((product.version, copy.reserved), (copy.version, 0), "{}", copy.sku);
        }
    }
}

/// Pieces that were promised and that the copy does not show as taken, although they are or may be.
fn unseen(seen: &Seen, copy: &ProductCopy) -> i64 {
    let is_unseen = |order: &Order| match seen.records.get(&order.row.id) {
        None => !order.row.status.is_final(),
        Some(_) => seen.deducted.iter().any(|row| {
            row.order_id == order.row.id && row.sku == copy.sku && row.version > copy.version
        }),
    };
    let lines =
        seen.orders.values().filter(|order| is_unseen(order)).flat_map(|order| &order.lines);
    lines.filter(|line| line.sku == copy.sku).map(|line| line.quantity).sum()
}
