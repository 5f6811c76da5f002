//! The copy of a view that another program keeps on a topic, such as Flink SQL: what each customer bought last.

mod incoming;
mod model;
#[cfg(test)]
mod tests;
mod view;

use common::db::Db;
use common::http::Text;

pub use incoming::{Purchase, PurchaseLine};
pub use model::{CustomerPurchases, find};
pub use view::PurchasesView;

/// Whom purchases are of: 1 to 200 characters.
pub type PurchasesCustomer = Text<1, 200>;

/// What the purchases' routes work with; cheap to clone.
#[derive(Clone)]
pub struct Purchases {
    /// The service's database.
    pub db: Db,
    /// Where the view is; none: no copy is kept.
    pub topic: Option<String>,
}
