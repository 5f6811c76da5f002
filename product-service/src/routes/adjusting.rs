//! Single adjustments, each its own request: those that arrive while a transaction is on its way share the next one.

use actix_web::http::StatusCode;
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::http::{
    GroupError, GroupOutcome, GroupWork, GroupedChange, GroupedWrites, KeysInProgress,
    Precondition, Problem, ProblemResult, Reply,
};
use common::inventory::Sku;
use diesel::result::Error;
use engine::outbox::shard_of;

use super::inventory::ProductView;
use crate::inventory::{
    self, Adjustment, GroupedAdjustment, GroupedOutcome, Inventory, Product, WriteContext,
};

/// Transactions at a time: while one waits for the disk, another one reads and decides.
const LANES: usize = 3;

/// Where single adjustments ride.
pub type AdjustmentLanes = GroupedWrites<Inventory>;

/// Lanes to this inventory.
pub fn adjustment_lanes(inventory: &Inventory) -> AdjustmentLanes {
    GroupedWrites::new(LANES, inventory.clone())
}

/// What one request asks for.
pub struct AdjustProduct {
    pub(super) sku: Sku,
    pub(super) adjustment: Adjustment,
    pub(super) precondition: Precondition,
}

impl GroupWork for Inventory {
    type Change = AdjustProduct;

    fn db(&self) -> &Db {
        &self.db
    }

    fn keys(&self) -> &KeysInProgress {
        &self.keys
    }

    fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// All of a product ride in one lane.
    fn place(change: &AdjustProduct) -> usize {
        usize::from(shard_of(change.sku.as_str()).unsigned_abs())
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        group: &[GroupedChange<'_, AdjustProduct>],
    ) -> Result<Vec<GroupOutcome>, GroupError> {
        let context = WriteContext { outbox: self.outbox.clone(), now, traceparent: None };
        let group: Vec<GroupedAdjustment<'_>> = group.iter().map(grouped).collect();
        let outcomes = inventory::adjust_group(conn, &context, &group)?;
        Ok(outcomes.into_iter().map(told).collect::<Result<_, Error>>()?)
    }

    fn committed(&self) {
        self.outbox.wake();
    }
}

fn grouped<'a>(one: &GroupedChange<'a, AdjustProduct>) -> GroupedAdjustment<'a> {
    let AdjustProduct { sku, adjustment, precondition } = one.change;
    GroupedAdjustment { sku, adjustment, precondition, traceparent: one.traceparent }
}

fn told(outcome: GroupedOutcome) -> Result<GroupOutcome, Error> {
    Ok(match outcome {
        GroupedOutcome::Adjusted(product) => GroupOutcome::done(adjusted(product))?,
        GroupedOutcome::Refused(refusal) => GroupOutcome::Refused(Problem::from(&refusal)),
        GroupedOutcome::Held => GroupOutcome::Held,
    })
}

fn adjusted(product: Product) -> ProblemResult<Reply> {
    let version = product.version;
    Ok(Reply::json(StatusCode::OK, &ProductView::from(product))?.with_version(version))
}
