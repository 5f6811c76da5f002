//! The copy of product-service's inventory: what events make of it, and reading it.

mod apply;
mod copied;
mod incoming;
mod model;
#[cfg(test)]
pub(crate) mod tests;

use common::db::Db;
use common::env::Env;

pub use apply::InventoryHandler;
pub use copied::CopiedInventory;
pub use model::{ProductCopy, find, page};
pub(crate) use model::{lock, lock_free, reserve};

/// What the inventory's routes work with; cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    /// The service's database.
    pub db: Db,
    /// Time.
    pub env: Env,
}
