//! The copy of product-service's inventory: what events make of it, and reading it.

mod apply;
mod model;
#[cfg(test)]
pub(crate) mod tests;

use common::db::{Db, EmbeddedMigrations, MigrationSet, embed_migrations};
use common::env::Env;

pub use apply::InventoryHandler;
pub use model::{ProductCopy, find, page};
pub(crate) use model::{lock, reserve};

static POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/order/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/order/sqlite");

/// This service's own tables; run after [`common::db::ENGINE_MIGRATIONS`].
pub const MIGRATIONS: MigrationSet = MigrationSet { postgres: &POSTGRES, sqlite: &SQLITE };

/// What the inventory's routes work with; cheap to clone.
#[derive(Clone)]
pub struct Inventory {
    /// The service's database.
    pub db: Db,
    /// Time.
    pub env: Env,
}
