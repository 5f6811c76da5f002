//! What makes order-service: the copy of the inventory that it keeps, on the engine that both services share.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use common::app::{Routes, Service};
use common::db::{ENGINE_MIGRATIONS, MigrationSet};
use common::engine::{Engine, Roles};

use crate::details::Details;
use crate::inventory::{Inventory, InventoryHandler, MIGRATIONS};
use crate::routes;

/// The service, for its own program and for the all-in-one binary.
pub const SERVICE: Service = Service {
    name: "order-service",
    about: "Keeps a copy of the inventory in step with product-service, and answers for every change.",
    defaults: include_str!("../order-service.toml"),
    migrations: SCHEMA,
    roles,
    routes: mount,
};

static SCHEMA: &[MigrationSet] = &[ENGINE_MIGRATIONS, MIGRATIONS];

fn roles(_engine: &Engine) -> Roles {
    Roles { sends: false, receives: Some(Arc::new(InventoryHandler)) }
}

fn mount(engine: &Engine) -> anyhow::Result<Routes> {
    let inventory = Data::new(Inventory { db: engine.db.clone(), env: engine.env.clone() });
    let details = Data::new(Details::new(&engine.settings.peer, engine.env.clone())?);
    Ok(Arc::new(move |config: &mut ServiceConfig| {
        config.app_data(inventory.clone()).app_data(details.clone()).configure(routes::configure);
    }))
}
