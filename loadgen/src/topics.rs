//! The topics of the loop, as the services call them unless they are told otherwise.

/// Events of product-service.
pub(crate) const EVENTS: &str = "stockloop.inventory.v1";

/// The answers to them.
pub(crate) const ACKS: &str = "stockloop.inventory.acks.v1";

/// Events of order-service.
pub(crate) const ORDERS: &str = "stockloop.orders.v1";

/// The answers to those.
pub(crate) const ORDER_ACKS: &str = "stockloop.orders.acks.v1";
