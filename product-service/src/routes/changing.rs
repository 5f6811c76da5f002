//! Single changes of products, each its own request: those that arrive while a transaction is on its way share the next one.

use actix_web::http::StatusCode;
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    GroupError, GroupOutcome, GroupParts, GroupWork, GroupedChange, GroupedWrites, Problem,
    ProblemResult, Reply,
};
use diesel::QueryResult;
use engine::outbox::shard_of;

use super::inventory::ProductView;
use crate::inventory::{self, ChangeOutcome, Inventory, Product, ProductChange, WriteContext};

/// Transactions at a time: while one waits for the disk, another one reads and decides.
const LANES: usize = 3;

/// Where single changes ride.
pub type ProductLanes = GroupedWrites<Inventory>;

/// Lanes to this inventory.
pub fn product_lanes(inventory: &Inventory) -> ProductLanes {
    GroupedWrites::new(LANES, inventory.clone())
}

impl GroupWork for Inventory {
    type Change = ProductChange;

    fn parts(&self) -> GroupParts<'_> {
        GroupParts { db: &self.db, keys: &self.keys, now: self.env.now() }
    }

    /// All of a product ride in one lane.
    fn place(change: &ProductChange) -> usize {
        usize::from(shard_of(change.sku.as_str()).unsigned_abs())
    }

    fn weight(_: &ProductChange) -> usize {
        1
    }

    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        group: &[GroupedChange<'_, ProductChange>],
    ) -> Result<Vec<GroupOutcome>, GroupError> {
        let context = WriteContext { outbox: self.outbox.clone(), now, traceparent: None };
        let outcomes = inventory::change_group(conn, &context, group)?;
        Ok(outcomes.into_iter().map(told).collect::<QueryResult<_>>()?)
    }

    fn committed(&self) {
        self.outbox.wake();
    }
}

fn told(outcome: ChangeOutcome) -> QueryResult<GroupOutcome> {
    Ok(match outcome {
        ChangeOutcome::Created(product) => GroupOutcome::done(created(product))?,
        ChangeOutcome::Changed(product) => GroupOutcome::done(shown(StatusCode::OK, product))?,
        ChangeOutcome::Removed => GroupOutcome::Done(Reply::no_content()),
        ChangeOutcome::Refused(refusal) => GroupOutcome::Refused(Problem::from(&refusal)),
        ChangeOutcome::Held => GroupOutcome::Held,
    })
}

fn created(product: Product) -> ProblemResult<Reply> {
    let location = format!("/api/v1/inventory/{}", product.sku.path_segment());
    Ok(shown(StatusCode::CREATED, product)?.with_location(location))
}

fn shown(status: StatusCode, product: Product) -> ProblemResult<Reply> {
    let version = product.version;
    Ok(Reply::json(status, &ProductView::from(product))?.with_version(version))
}
