//! What this service answers under `/api/v1`.

mod changing;
mod details;
mod history;
mod inventory;
mod orders;
mod problems;
mod write;

use actix_web::web::ServiceConfig;
use common::http::query_config;
use utoipa::OpenApi;

pub use changing::{ProductLanes, product_lanes};

#[derive(OpenApi)]
#[openapi(
    paths(
        inventory::list,
        inventory::read,
        inventory::replace,
        inventory::put_batch,
        inventory::remove,
        inventory::adjust,
        inventory::adjust_batch,
        history::list,
        details::read,
        details::replace,
        orders::read,
    ),
    tags(
        (name = "inventory", description = "The products that this service owns, and their stock"),
        (name = "details", description = "Details of a product, which are sent only on request"),
        (name = "orders", description = "What orders took from the stock"),
    )
)]
struct Api;

/// The routes in the documentation of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// Adds the routes to the scope `/api/v1`; they need `web::Data` of [`crate::inventory::Inventory`], of
/// [`ProductLanes`] and of [`crate::orders::Orders`].
pub fn configure(cfg: &mut ServiceConfig) {
    cfg.app_data(query_config());
    inventory::configure(cfg);
    history::configure(cfg);
    details::configure(cfg);
    orders::configure(cfg);
}
