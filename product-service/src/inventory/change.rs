//! What a change makes of one product: its next version.

use std::num::NonZeroI64;

use common::clock::Timestamp;
use common::inventory::Sku;

use super::model::NewAdjustment;
use super::{Adjustment, ChangeRefusal, Product, ProductContent};

impl Product {
    /// The next version, with this content.
    pub(super) fn put(
        &self,
        content: ProductContent,
        now: Timestamp,
    ) -> Result<Self, ChangeRefusal> {
        Self::of(&self.sku, content, self.version + 1, self.not_before(now))
    }

    /// This content as that version.
    pub(super) fn of(
        sku: &Sku,
        content: ProductContent,
        version: i64,
        now: Timestamp,
    ) -> Result<Self, ChangeRefusal> {
        if content.quantity < 0 && !content.allow_backorder {
            return Err(ChangeRefusal::Negative);
        }
        Ok(Self {
            sku: sku.clone(),
            description: content.description.into_inner(),
            quantity: content.quantity,
            unit_price_minor: content.unit_price_minor.minor(),
            allow_backorder: content.allow_backorder,
            removed: false,
            version,
            updated_us: now,
        })
    }

    /// The next version, with `delta` pieces more.
    pub(crate) fn adjusted(&self, delta: i64, now: Timestamp) -> Result<Self, ChangeRefusal> {
        let (sku, quantity) = (&self.sku, self.quantity);
        let Some(after) = quantity.checked_add(delta) else {
            return Err(ChangeRefusal::Overflow { sku: sku.clone(), quantity, delta });
        };
        if after < 0 && !self.allow_backorder {
            return Err(ChangeRefusal::InsufficientStock { sku: sku.clone(), quantity, delta });
        }
        Ok(Self {
            quantity: after,
            version: self.version + 1,
            updated_us: self.not_before(now),
            ..self.clone()
        })
    }

    /// The pieces by which the stock of `after` is another one, if it is.
    pub(super) fn difference_to(&self, after: &Self) -> Result<Option<NonZeroI64>, ChangeRefusal> {
        let (sku, quantity, wanted) = (&self.sku, self.quantity, after.quantity);
        match wanted.checked_sub(quantity) {
            Some(delta) => Ok(NonZeroI64::new(delta)),
            None => Err(ChangeRefusal::TooFar { sku: sku.clone(), quantity, wanted }),
        }
    }

    /// Whether both say the same of the product, as whatever version.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        let (version, updated_us) = (other.version, other.updated_us);
        Self { version, updated_us, ..self.clone() } == *other
    }

    /// The next version, removed.
    pub(super) fn tombstone(&self, now: Timestamp) -> Self {
        Self {
            quantity: 0,
            removed: true,
            version: self.version + 1,
            updated_us: self.not_before(now),
            ..self.clone()
        }
    }

    /// A clock that was set back must not make a later version look older.
    fn not_before(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_us)
    }
}

impl NewAdjustment {
    /// What is kept of the adjustment that led to `product`.
    pub(super) fn of(product: &Product, adjustment: &Adjustment) -> Self {
        Self {
            sku: product.sku.clone(),
            delta: adjustment.delta.get(),
            quantity: product.quantity,
            version: product.version,
            reason: adjustment.reason.clone().into_inner(),
            reference: adjustment.reference.clone().map(super::Reference::into_inner),
            at_us: product.updated_us,
        }
    }
}
