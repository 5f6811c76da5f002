//! order-service: takes orders against its copy of product-service's inventory, and answers every event of it.

mod app;
pub mod details;
pub mod inventory;
pub mod orders;
pub mod purchases;
pub mod retention;
pub mod routes;
pub mod schema;

pub use app::SERVICE;
