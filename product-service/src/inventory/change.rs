//! The changes of one product: each locks its row, writes its next version and appends the event.

use std::num::NonZeroI64;

use common::clock::Timestamp;
use common::db::Conn;
use common::http::Precondition;
use common::inventory::{Cause, CauseKind, Sku};
use diesel::QueryResult;

use super::model::{self, NewAdjustment};
use super::{
    Adjustment, ChangeError, ChangeRefusal, Product, ProductContent, WriteContext, details, events,
    existing,
};
use crate::retention;

/// Tries to find or add a product: the second finds what another one added meanwhile.
const TRIES: usize = 2;

/// A product after a PUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// As it is now.
    pub product: Product,
    /// Whether it was not there before, or was removed.
    pub created: bool,
}

/// Puts a product in, or replaces it; a removed one goes on from its tombstone's version, or above all that went.
///
/// # Errors
/// Refused when `precondition` does not hold, the stock is below zero without backorders, or the SKU of a new product
/// could be taken for another one.
pub fn put(
    conn: &mut Conn,
    context: &WriteContext,
    sku: &Sku,
    content: ProductContent,
    precondition: &Precondition,
) -> Result<PutOutcome, ChangeError> {
    for _ in 0..TRIES {
        let before = model::lock(conn, sku)?;
        let current = before.as_ref().filter(|product| !product.removed);
        precondition.check(current.map(|product| product.version))?;
        let created = current.is_none();
        if created {
            sku.check_as_new().map_err(ChangeRefusal::from)?;
        }
        let product = match &before {
            Some(before) => before.put(content.clone(), context.now)?,
            None => {
                let first = retention::first_version(conn)?;
                Product::of(sku, content.clone(), first, context.now)?
            }
        };
        if before.is_some() {
            model::update(conn, &product)?;
        } else if !model::insert(conn, &product)? {
            continue;
        }
        append_event(conn, context, &product, events::cause(CauseKind::Put))?;
        return Ok(PutOutcome { product, created });
    }
    Err(ChangeError::Raced)
}

/// Removes a product: its tombstone stays, without stock, one version on.
///
/// # Errors
/// Refused when there is no such product or `precondition` does not hold.
pub fn remove(
    conn: &mut Conn,
    context: &WriteContext,
    sku: &Sku,
    precondition: &Precondition,
) -> Result<Product, ChangeError> {
    let before = existing(model::lock(conn, sku)?, sku)?;
    precondition.check(Some(before.version))?;
    let product = before.tombstone(context.now);
    model::update(conn, &product)?;
    details::delete(conn, sku)?;
    append_event(conn, context, &product, events::cause(CauseKind::Removal))?;
    Ok(product)
}

fn append_event(
    conn: &mut Conn,
    context: &WriteContext,
    product: &Product,
    cause: Cause,
) -> QueryResult<()> {
    let event = events::event(product, cause, context.traceparent.clone())?;
    context.outbox.append(conn, vec![event]).map(drop)
}

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

    fn tombstone(&self, now: Timestamp) -> Self {
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
