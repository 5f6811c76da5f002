//! What makes product-service: the inventory that it owns and the orders that take from it, on the engine that
//! both services share.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use common::db::{ENGINE_MIGRATIONS, MigrationSet};
use engine::verify::Collection;
use engine::{Engine, HookContext, Hooks};
use service::app::{Routes, Service};

use crate::inventory::{Inventory, OwnedInventory};
use crate::orders::{Orders, OrdersHandler};
use crate::retention;
use crate::routes;
use crate::schema::MIGRATIONS;

/// The service, for its own program and for the all-in-one binary.
pub const SERVICE: Service = Service {
    name: "product-service",
    about: "Owns the inventory, and sends every change to the other services until they have it.",
    defaults: include_str!("../product-service.toml"),
    migrations: SCHEMA,
    hooks,
    openapi: routes::openapi,
    routes: mount,
};

static SCHEMA: &[MigrationSet] = &[ENGINE_MIGRATIONS, MIGRATIONS];

fn hooks(context: &HookContext) -> Hooks {
    let handler = OrdersHandler::new(context.outbox.clone());
    Hooks {
        sends: true,
        handler: Some(Arc::new(handler)),
        listener: None,
        forget: Some(retention::forget),
        collection: Some(Collection::Owned(Arc::new(OwnedInventory))),
        commander: None,
        view: None,
    }
}

fn mount(engine: &Engine) -> anyhow::Result<Routes> {
    let inventory = Inventory {
        db: engine.db.clone(),
        env: engine.env.clone(),
        outbox: engine.outbox.clone(),
        keys: engine.keys.clone(),
    };
    let lanes = Data::new(routes::product_lanes(&inventory));
    let inventory = Data::new(inventory);
    let orders = Data::new(Orders { db: engine.db.clone() });
    Ok(Arc::new(move |config: &mut ServiceConfig| {
        config
            .app_data(inventory.clone())
            .app_data(lanes.clone())
            .app_data(orders.clone())
            .configure(routes::configure);
    }))
}
