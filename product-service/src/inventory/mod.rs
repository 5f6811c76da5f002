//! The inventory: products, their stock, and every change of them with its event.

mod batch;
mod change;
mod details;
mod events;
mod fields;
mod group;
mod history;
mod model;
mod owned;
mod pending;
mod put_batch;
mod read;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use common::clock::Timestamp;
use common::db::Db;
use common::env::Env;
use common::http::KeysInProgress;
use engine::outbox::Outbox;

pub use batch::{AdjustedLine, LineOutcome, adjust_batch};
pub use details::{DetailsContent, LongDescription, details, put_details};
pub(crate) use events::cause_of_order;
pub use events::event;
pub use fields::{
    Adjustment, AdjustmentBatch, AdjustmentLine, AdjustmentLines, BatchMode, Description,
    FieldError, Price, ProductBatch, ProductContent, ProductLine, ProductLines, PutMode, Reason,
    Reference,
};
pub use group::{ChangeKind, ChangeOutcome, ProductChange, change_group};
pub use history::{
    HistoryError, HistoryPage, KeptVersion, PastEvent, PastState, at_moment, at_version, history,
};
pub use model::{NewAdjustment, Product, page};
pub(crate) use model::{lock_all, update_stock};
pub use owned::OwnedInventory;
pub use put_batch::{PutLine, PutLineOutcome, put_batch};
pub(crate) use read::existing;
pub use read::get;
pub use refusal::{ChangeError, ChangeRefusal};

/// What the inventory's routes work with; cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// Where each change puts its event.
    pub outbox: Outbox,
    /// The writes with an `Idempotency-Key` that are going on.
    pub keys: KeysInProgress,
}

/// What every write needs besides its content.
#[derive(Clone)]
pub struct WriteContext {
    /// Where its event goes.
    pub outbox: Outbox,
    /// Now.
    pub now: Timestamp,
    /// The trace of the request.
    pub traceparent: Option<String>,
}
