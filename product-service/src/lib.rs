//! product-service: owns the inventory and tells every change of it through the outbox.

mod app;
pub mod inventory;
pub mod orders;
pub mod retention;
pub mod routes;
pub mod schema;

pub use app::SERVICE;
