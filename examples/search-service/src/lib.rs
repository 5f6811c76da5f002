//! search-service: finds products by the words of their descriptions, in a copy of the inventory of its own shape.

mod index;
mod routes;

use std::sync::Arc;

use actix_web::web::Data;
use common::db::{ENGINE_MIGRATIONS, MigrationSet, embed_migrations};
use engine::copies::CopyTable;
use engine::verify::Collection;
use engine::{Engine, HookContext, Hooks};
use service::app::{Routes, Service};

use index::Index;

/// The service, for its own program and for whoever runs several in one.
pub const SERVICE: Service = Service {
    name: "search-service",
    about: "Finds products by the words of their descriptions.",
    defaults: include_str!("../search-service.toml"),
    migrations: &[
        ENGINE_MIGRATIONS,
        MigrationSet {
            postgres: &embed_migrations!("migrations/postgres"),
            sqlite: &embed_migrations!("migrations/sqlite"),
        },
    ],
    hooks,
    openapi: routes::openapi,
    routes: mount,
};

fn hooks(_context: &HookContext) -> Hooks {
    Hooks {
        sends: false,
        handler: Some(Arc::new(CopyTable::<Index>::new())),
        listener: None,
        forget: None,
        collection: Some(Collection::Copied(Arc::new(CopyTable::<Index>::new()))),
        commander: None,
        view: None,
    }
}

fn mount(engine: &Engine) -> anyhow::Result<Routes> {
    let db = Data::new(engine.db.clone());
    Ok(Arc::new(move |config| routes::configure(config, db.clone())))
}
