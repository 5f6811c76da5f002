//! Changes of many requests in one transaction: each is decided as if it had come alone.

use std::collections::BTreeSet;

use common::db::Conn;
use common::http::{GroupError, GroupedChange, Precondition};
use common::inventory::Sku;
use diesel::QueryResult;

use super::pending::PendingChanges;
use super::{Adjustment, ChangeRefusal, Product, ProductContent, WriteContext, model};
use crate::retention;

/// What one request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductChange {
    /// Of which product.
    pub sku: Sku,
    /// What the client knows of it.
    pub precondition: Precondition,
    /// What is to become of it.
    pub kind: ChangeKind,
}

/// What is to become of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is put in, or replaced; a removed one goes on from its tombstone's version, or above all that went.
    Put(ProductContent),
    /// Its stock is another one.
    Adjust(Adjustment),
    /// It is removed: its tombstone stays, without stock, one version on.
    Remove,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It is there, and was not before, or was removed.
    Created(Product),
    /// It is this now.
    Changed(Product),
    /// It is gone.
    Removed,
    /// It is refused, and nothing of it was written.
    Refused(ChangeRefusal),
    /// Another transaction holds its product, which was left.
    Held,
}

/// Changes in order; each that is done is a version and an event of its own. The outcomes are in the order of `group`.
///
/// # Errors
/// When a statement fails, or another transaction puts in the same new product; then all of it has to be rolled back.
pub fn change_group(
    conn: &mut Conn,
    context: &WriteContext,
    group: &[GroupedChange<'_, ProductChange>],
) -> Result<Vec<ChangeOutcome>, GroupError> {
    let skus: BTreeSet<&str> = group.iter().map(|one| one.change.sku.as_str()).collect();
    let skus: Vec<&str> = skus.into_iter().collect();
    let (free, held) = model::lock_free(conn, &skus)?;
    let mut pending = PendingChanges::of(free, context.now);
    if group.iter().any(|one| is_of_new(one.change, &pending, &held)) {
        // After the locks, so that a tombstone that went meanwhile has been noted.
        pending = pending.beginning_with(retention::first_version(conn)?);
    }
    let mut outcomes = Vec::with_capacity(group.len());
    for one in group {
        outcomes.push(match held.contains(&one.change.sku) {
            true => ChangeOutcome::Held,
            false => change(&mut pending, one)?,
        });
    }
    match pending.write(conn, &context.outbox)? {
        true => Ok(outcomes),
        false => Err(GroupError::Raced),
    }
}

/// Whether it puts in a product that has no row.
fn is_of_new(change: &ProductChange, pending: &PendingChanges, held: &BTreeSet<Sku>) -> bool {
    let is_put = matches!(change.kind, ChangeKind::Put(_));
    is_put && pending.product(&change.sku).is_none() && !held.contains(&change.sku)
}

fn change(
    pending: &mut PendingChanges,
    one: &GroupedChange<'_, ProductChange>,
) -> QueryResult<ChangeOutcome> {
    let ProductChange { sku, precondition, kind } = one.change;
    let traceparent = one.traceparent.map(str::to_owned);
    let done = match kind.clone() {
        ChangeKind::Put(content) => {
            let put = pending.put(sku, content, precondition, traceparent)?;
            put.map(|(product, created)| match created {
                true => ChangeOutcome::Created(product),
                false => ChangeOutcome::Changed(product),
            })
        }
        ChangeKind::Adjust(adjustment) => {
            let adjusted = pending.adjust(sku, adjustment, precondition, traceparent)?;
            adjusted.map(ChangeOutcome::Changed)
        }
        ChangeKind::Remove => {
            let removed = pending.remove(sku, precondition, traceparent)?;
            removed.map(|()| ChangeOutcome::Removed)
        }
    };
    Ok(done.unwrap_or_else(ChangeOutcome::Refused))
}
