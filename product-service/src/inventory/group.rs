//! Adjustments of many requests in one transaction: each is decided as if it had come alone.

use std::collections::BTreeSet;

use common::db::Conn;
use common::http::Precondition;
use common::inventory::Sku;
use diesel::QueryResult;

use super::pending::PendingChanges;
use super::{Adjustment, ChangeRefusal, Product, WriteContext, model};

/// One request's adjustment.
pub struct GroupedAdjustment<'a> {
    /// Of which product.
    pub sku: &'a Sku,
    /// By how much, and why.
    pub adjustment: &'a Adjustment,
    /// What the client knows of it.
    pub precondition: &'a Precondition,
    /// The trace of the request.
    pub traceparent: Option<&'a str>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupedOutcome {
    /// It is done, and this is the product now.
    Adjusted(Product),
    /// It is refused, and nothing of it was written.
    Refused(ChangeRefusal),
    /// Another transaction holds its product, which was left.
    Held,
}

/// Adjusts in order; each that is done is a version and an event of its own. The outcomes are in the order of `group`.
///
/// # Errors
/// When a statement fails; then all of it has to be rolled back.
pub fn adjust_group(
    conn: &mut Conn,
    context: &WriteContext,
    group: &[GroupedAdjustment<'_>],
) -> QueryResult<Vec<GroupedOutcome>> {
    let skus: BTreeSet<&str> = group.iter().map(|one| one.sku.as_str()).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let (free, held) = model::lock_free(conn, &skus)?;
    let mut pending = PendingChanges::of(free, context.now);
    let mut outcomes = Vec::with_capacity(group.len());
    for one in group {
        if held.contains(one.sku) {
            outcomes.push(GroupedOutcome::Held);
            continue;
        }
        let (adjustment, traceparent) =
            (one.adjustment.clone(), one.traceparent.map(str::to_owned));
        let outcome = pending.adjust(one.sku, adjustment, one.precondition, traceparent)?;
        outcomes.push(match outcome {
            Ok(product) => GroupedOutcome::Adjusted(product),
            Err(refusal) => GroupedOutcome::Refused(refusal),
        });
    }
    pending.write(conn, &context.outbox)?;
    Ok(outcomes)
}
