//! What this service answers under `/api/v1`.

mod inventory;
mod orders;
mod stream;

use actix_web::web::{QueryConfig, ServiceConfig};
use common::http::Problem;

/// Adds the routes to the scope `/api/v1`; they need `web::Data` of [`crate::inventory::Inventory`], of
/// [`crate::details::Details`] and of [`crate::orders::Orders`].
pub fn configure(cfg: &mut ServiceConfig) {
    cfg.app_data(
        QueryConfig::default()
            .error_handler(|error, _| Problem::invalid("query", error.to_string()).into()),
    );
    inventory::configure(cfg);
    orders::configure(cfg);
}
