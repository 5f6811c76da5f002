//! What PostgreSQL makes of this service's tables.

use std::time::Duration;

use common::db::{Conn, DbError};
use engine::inbox::Handler;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::storage::{Updates, storage_parameters, updates_of};

use super::copy_fixture::CopyFixture;
use crate::inventory::{Inventory, InventoryHandler};

#[actix_web::test]
async fn a_newer_state_touches_no_index() {
    let Some(database) = TestDatabase::postgres() else { return };
    let fixture = CopyFixture::new(database);
    let states = |version| ["A", "B", "C"].map(|sku| fixture.event(sku, 1, version));
    fixture.apply(states(1).to_vec()).await;
    fixture.clock.advance(Duration::from_secs(1));
    let Inventory { db, env } = &fixture.inventory;
    let (now, newer) = (env.now(), states(2));
    let apply = move |conn: &mut Conn| {
        updates_of(conn, "product_copy", |conn| InventoryHandler.apply(conn, now, &newer))
    };
    assert_eq!(db.write(apply).await.unwrap(), Updates { rows: 3, hot: 3 });
}

/// Each of these has its reason in docs/decisions/0035-upkeep-of-tables.md.
#[actix_web::test]
async fn tables_are_stored_as_was_decided() {
    let Some(database) = TestDatabase::postgres() else { return };
    let db = &CopyFixture::new(database).inventory.db;
    let stored = db.read(|conn| storage_parameters(conn).map_err(DbError::from)).await.unwrap();
    assert_eq!(stored["product_copy"], "fillfactor=90");
    assert_eq!(stored["orders"], "autovacuum_vacuum_scale_factor=0.03");
}
