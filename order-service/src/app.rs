//! What makes order-service: the copy of the inventory that it keeps and the orders that it takes, on the engine
//! that both services share.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use common::db::{ENGINE_MIGRATIONS, MigrationSet};
use engine::verify::Collection;
use engine::views::CopiedView;
use engine::{Engine, HookContext, Hooks};
use service::app::{Routes, Service};

use crate::details::DetailsClient;
use crate::inventory::{CopiedInventory, Inventory, InventoryHandler};
use crate::orders::{Orders, OrdersCommander, OrdersListener};
use crate::purchases::{Purchases, PurchasesView};
use crate::retention;
use crate::routes;
use crate::schema::MIGRATIONS;

/// The service, for its own program and for the all-in-one binary.
pub const SERVICE: Service = Service {
    name: "order-service",
    about: "Takes orders against its copy of the inventory, and keeps both in step with product-service.",
    defaults: include_str!("../order-service.toml"),
    migrations: SCHEMA,
    hooks,
    openapi: routes::openapi,
    routes: mount,
};

static SCHEMA: &[MigrationSet] = &[ENGINE_MIGRATIONS, MIGRATIONS];

fn hooks(context: &HookContext) -> Hooks {
    let listener = OrdersListener::new(context.outbox.clone(), context.signals.clone());
    let commander = OrdersCommander::new(context.outbox.clone(), context.signals.clone());
    let topic = context.settings.views.purchases_topic.clone();
    let view = CopiedView { topic, view: Arc::new(PurchasesView) };
    Hooks {
        sends: true,
        handler: Some(Arc::new(InventoryHandler)),
        listener: Some(Arc::new(listener)),
        forget: Some(retention::forget),
        collection: Some(Collection::Copied(Arc::new(CopiedInventory))),
        commander: Some(Arc::new(commander)),
        view: Some(view).filter(|view| !view.topic.is_empty()),
    }
}

fn mount(engine: &Engine) -> anyhow::Result<Routes> {
    let inventory = Data::new(Inventory { db: engine.db.clone(), env: engine.env.clone() });
    let details = Data::new(DetailsClient::new(&engine.settings.peer, engine.env.clone())?);
    let orders = Orders {
        db: engine.db.clone(),
        env: engine.env.clone(),
        outbox: engine.outbox.clone(),
        keys: engine.keys.clone(),
        signals: engine.signals.clone(),
        stopping: engine.stopping.clone(),
    };
    let lanes = Data::new(routes::order_lanes(&orders));
    let orders = Data::new(orders);
    let topic = engine.view.as_ref().map(|view| view.topic.clone());
    let purchases = Data::new(Purchases { db: engine.db.clone(), topic });
    Ok(Arc::new(move |config: &mut ServiceConfig| {
        config
            .app_data(inventory.clone())
            .app_data(details.clone())
            .app_data(orders.clone())
            .app_data(lanes.clone())
            .app_data(purchases.clone())
            .configure(routes::configure);
    }))
}
