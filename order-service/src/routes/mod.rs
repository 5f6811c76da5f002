//! What this service answers under `/api/v1`.

mod inventory;
mod orders;
mod placing;
mod problems;
mod purchases;
mod stream;
mod write;

use actix_web::web::ServiceConfig;
use common::http::query_config;
use utoipa::OpenApi;

pub use placing::{OrderLanes, order_lanes};

#[derive(OpenApi)]
#[openapi(
    paths(
        orders::list,
        orders::place,
        orders::read,
        orders::cancel,
        inventory::list,
        inventory::read,
        purchases::read,
    ),
    tags(
        (name = "orders", description = "Placing, cancelling and following orders"),
        (name = "inventory", description = "The copy of the inventory, and how fresh it is"),
        (name = "purchases", description = "The copy of a view that another program keeps: what customers bought last"),
    )
)]
struct Api;

/// The routes in the documentation of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// Adds the routes to the scope `/api/v1`; they need `web::Data` of [`crate::inventory::Inventory`], of
/// [`crate::details::DetailsClient`], of [`crate::orders::Orders`], of [`OrderLanes`] and of
/// [`crate::purchases::Purchases`].
pub fn configure(cfg: &mut ServiceConfig) {
    cfg.app_data(query_config());
    inventory::configure(cfg);
    orders::configure(cfg);
    purchases::configure(cfg);
}
