//! The copy of a view that another program keeps on a topic, such as Flink SQL: what each customer bought last.

mod incoming;
mod model;
#[cfg(test)]
mod tests;
mod view;

use common::db::Db;

pub use model::{CustomerPurchases, find};
pub use view::PurchasesView;

/// What the purchases' routes work with; cheap to clone.
#[derive(Clone)]
pub struct Purchases {
    /// The service's database.
    pub db: Db,
    /// Where the view is; none: no copy is kept.
    pub topic: Option<String>,
}
