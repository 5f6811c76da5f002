//! Orders, each its own request: those that arrive while a transaction is on its way share the next one.

use actix_web::http::StatusCode;
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    GroupError, GroupOutcome, GroupParts, GroupWork, GroupedChange, GroupedWrites, ProblemResult,
    Reply,
};
use diesel::QueryResult;

use super::orders::OrderView;
use super::problems::place_problem;
use crate::orders::{self, Order, Orders, PlaceOrder, PlaceOutcome};

/// Transactions at a time: an order wants several products, so a second lane would want what the first one holds.
const LANES: usize = 1;

/// Where orders ride.
pub type OrderLanes = GroupedWrites<Orders>;

/// Lanes to these orders.
pub fn order_lanes(orders: &Orders) -> OrderLanes {
    GroupedWrites::new(LANES, orders.clone())
}

impl GroupWork for Orders {
    type Change = PlaceOrder;

    fn parts(&self) -> GroupParts<'_> {
        GroupParts { db: &self.db, keys: &self.keys, now: self.env.now() }
    }

    fn place(_: &PlaceOrder) -> usize {
        0
    }

    fn weight(order: &PlaceOrder) -> usize {
        order.lines.as_slice().len()
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        group: &[GroupedChange<'_, PlaceOrder>],
    ) -> Result<Vec<GroupOutcome>, GroupError> {
        let outcomes = orders::place_group(conn, &self.context(now, None), group)?;
        let told = group.iter().zip(outcomes).map(|(one, outcome)| told(one.change, outcome));
        Ok(told.collect::<QueryResult<_>>()?)
    }

    fn committed(&self) {
        self.outbox.wake();
        self.signals.publish();
    }
}

fn told(order: &PlaceOrder, outcome: PlaceOutcome) -> QueryResult<GroupOutcome> {
    Ok(match outcome {
        PlaceOutcome::Placed(placed) => GroupOutcome::done(created(placed))?,
        PlaceOutcome::Refused(refusal) => {
            GroupOutcome::Refused(place_problem(refusal, order.lines.as_slice()))
        }
        PlaceOutcome::Held => GroupOutcome::Held,
    })
}

fn created(order: Order) -> ProblemResult<Reply> {
    let location = format!("/api/v1/orders/{}", order.row.id);
    Ok(Reply::json(StatusCode::CREATED, &OrderView::from(order))?.with_location(location))
}
