//! Orders at the owner of the stock: what their commands take and give back, and what was answered.

mod apply;
mod incoming;
mod model;
mod outcome;
#[cfg(test)]
pub(crate) mod tests;

use common::db::Db;

pub use apply::OrdersHandler;
pub use incoming::check_command;
pub use model::{OrderDeduction, OrderRecord, OrderState, find};

/// What the orders' routes work with; cheap to clone.
#[derive(Clone)]
pub struct Orders {
    /// The service's database.
    pub db: Db,
}
