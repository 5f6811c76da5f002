//! What a transaction changes: worked out in memory on rows that it has locked, and written set-based at its end.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::NewEvent;
use common::http::Precondition;
use common::inventory::{Cause, CauseKind, Sku};
use diesel::QueryResult;
use engine::outbox::Outbox;

use super::model::{self, NewAdjustment};
use super::{Adjustment, ChangeRefusal, Product, ProductContent, details, events, existing};

/// Changes of products, in order; each is a version and an event of its own.
pub(super) struct PendingChanges {
    now: Timestamp,
    /// The version of products without a row.
    first: i64,
    /// As they are now, tombstones, too.
    products: BTreeMap<Sku, Product>,
    /// The products that have a row.
    locked: BTreeSet<Sku>,
    changed: BTreeSet<Sku>,
    /// Those of the changed ones of which more than the stock is another.
    replaced: BTreeSet<Sku>,
    /// Those of them that were removed at some time, whose texts go.
    removed: BTreeSet<Sku>,
    adjustments: Vec<NewAdjustment>,
    events: Vec<NewEvent>,
}

impl PendingChanges {
    /// Nothing yet, on these rows.
    pub(super) fn of(locked: Vec<Product>, now: Timestamp) -> Self {
        let products: BTreeMap<Sku, Product> =
            locked.into_iter().map(|row| (row.sku.clone(), row)).collect();
        Self {
            now,
            first: 1,
            locked: products.keys().cloned().collect(),
            products,
            changed: BTreeSet::new(),
            replaced: BTreeSet::new(),
            removed: BTreeSet::new(),
            adjustments: Vec::new(),
            events: Vec::new(),
        }
    }

    /// With the version that products without a row begin with.
    #[must_use]
    pub(super) fn beginning_with(mut self, first: i64) -> Self {
        self.first = first;
        self
    }

    /// The product, or its tombstone, as it is now.
    pub(super) fn product(&self, sku: &Sku) -> Option<&Product> {
        self.products.get(sku)
    }

    /// The next version of `sku`, with this content.
    pub(super) fn next(
        &self,
        sku: &Sku,
        content: ProductContent,
    ) -> Result<Product, ChangeRefusal> {
        match self.product(sku) {
            Some(before) => before.put(content, self.now),
            None => Product::of(sku, content, self.first, self.now),
        }
    }

    /// Puts `sku` in or replaces it: it is then as returned, with whether it was not there; or it is said why not.
    pub(super) fn put(
        &mut self,
        sku: &Sku,
        content: ProductContent,
        precondition: &Precondition,
        traceparent: Option<String>,
    ) -> QueryResult<Result<(Product, bool), ChangeRefusal>> {
        let current = self.product(sku).filter(|product| !product.removed);
        let created = current.is_none();
        let after = match self.put_in(sku, content, current, precondition) {
            Ok(after) => after,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.replace(after.clone(), None, events::cause(CauseKind::Put), traceparent)?;
        Ok(Ok((after, created)))
    }

    fn put_in(
        &self,
        sku: &Sku,
        content: ProductContent,
        current: Option<&Product>,
        precondition: &Precondition,
    ) -> Result<Product, ChangeRefusal> {
        precondition.check(current.map(|product| product.version))?;
        if current.is_none() {
            sku.check_as_new()?;
        }
        self.next(sku, content)
    }

    /// Removes `sku`, or says why not.
    pub(super) fn remove(
        &mut self,
        sku: &Sku,
        precondition: &Precondition,
        traceparent: Option<String>,
    ) -> QueryResult<Result<(), ChangeRefusal>> {
        let tombstone = match self.tombstone(sku, precondition) {
            Ok(tombstone) => tombstone,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.removed.insert(sku.clone());
        self.replace(tombstone, None, events::cause(CauseKind::Removal), traceparent)?;
        Ok(Ok(()))
    }

    fn tombstone(&self, sku: &Sku, precondition: &Precondition) -> Result<Product, ChangeRefusal> {
        let before = existing(self.product(sku).cloned(), sku)?;
        precondition.check(Some(before.version))?;
        Ok(before.tombstone(self.now))
    }

    /// Adjusts `sku`, which is then as returned, or says why not.
    pub(super) fn adjust(
        &mut self,
        sku: &Sku,
        adjustment: Adjustment,
        precondition: &Precondition,
        traceparent: Option<String>,
    ) -> QueryResult<Result<Product, ChangeRefusal>> {
        let after = match self.adjusted(sku, &adjustment, precondition) {
            Ok(after) => after,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.adjustments.push(NewAdjustment::of(&after, &adjustment));
        let cause = events::cause_of_adjustment(adjustment);
        self.record(after.clone(), cause, traceparent)?;
        Ok(Ok(after))
    }

    fn adjusted(
        &self,
        sku: &Sku,
        adjustment: &Adjustment,
        precondition: &Precondition,
    ) -> Result<Product, ChangeRefusal> {
        let before = existing(self.product(sku).cloned(), sku)?;
        precondition.check(Some(before.version))?;
        before.adjusted(adjustment.delta.get(), self.now)
    }

    /// Notes the next state of a product of which more than the stock is another; and the adjustment that was part of it.
    pub(super) fn replace(
        &mut self,
        after: Product,
        adjustment: Option<&Adjustment>,
        cause: Cause,
        traceparent: Option<String>,
    ) -> QueryResult<()> {
        self.adjustments.extend(adjustment.map(|made| NewAdjustment::of(&after, made)));
        self.replaced.insert(after.sku.clone());
        self.record(after, cause, traceparent)
    }

    fn record(
        &mut self,
        after: Product,
        cause: Cause,
        traceparent: Option<String>,
    ) -> QueryResult<()> {
        self.events.push(events::event(&after, cause, traceparent)?);
        self.changed.insert(after.sku.clone());
        self.products.insert(after.sku.clone(), after);
        Ok(())
    }

    /// Writes all of it; false where another transaction put in one of the new products meanwhile: then it has to be rolled
    /// back.
    pub(super) fn write(self, conn: &mut Conn, outbox: &Outbox) -> QueryResult<bool> {
        let changed = self.changed.iter().filter_map(|sku| self.products.get(sku));
        let (replaced, restocked): (Vec<&Product>, Vec<&Product>) =
            changed.partition(|product| self.replaced.contains(&product.sku));
        if !restocked.is_empty() {
            model::update_stock(conn, &restocked)?;
        }
        if !self.write_replaced(conn, &replaced)? {
            return Ok(false);
        }
        details::delete_all(conn, &self.removed)?;
        model::insert_adjustments(conn, &self.adjustments)?;
        outbox.append(conn, self.events)?;
        Ok(true)
    }

    fn write_replaced(&self, conn: &mut Conn, replaced: &[&Product]) -> QueryResult<bool> {
        if replaced.is_empty() {
            return Ok(true);
        }
        let (locked, new): (Vec<&Product>, Vec<&Product>) =
            replaced.iter().partition(|product| self.locked.contains(&product.sku));
        Ok(model::put_all(conn, &locked, &new)? == replaced.len())
    }
}
