//! product-service: owns the inventory and tells every change of it through the outbox.

pub mod inventory;
pub mod routes;
pub mod schema;
