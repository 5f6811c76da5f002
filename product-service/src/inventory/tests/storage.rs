//! What PostgreSQL makes of the inventory's tables.

use std::time::Duration;

use common::db::{Conn, DbError};
use serde_json::json;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::storage::{Updates, storage_parameters, updates_of};

use super::product_fixture::{ProductFixture, line};
use crate::inventory::{AdjustmentLines, Inventory, WriteContext, adjust_batch};

#[actix_web::test]
async fn a_change_of_the_stock_touches_no_index() {
    let Some(database) = TestDatabase::postgres() else { return };
    let fixture = ProductFixture::new(database);
    for sku in ["A", "B", "C"] {
        fixture.stock(sku, 10).await;
    }
    let Inventory { db, env, outbox, .. } = &fixture.inventory;
    // One alone has a statement of its own.
    for (skus, rows) in [(&["A"][..], 1), (&["A", "B", "C"][..], 3)] {
        fixture.clock.advance(Duration::from_secs(1));
        let lines: Vec<_> = skus.iter().map(|sku| line(sku, -1)).collect();
        let lines: AdjustmentLines = serde_json::from_value(json!(lines)).unwrap();
        let context = WriteContext { outbox: outbox.clone(), now: env.now(), traceparent: None };
        let adjust = move |conn: &mut Conn| {
            updates_of(conn, "product", |conn| {
                let outcomes = adjust_batch(conn, &context, lines).unwrap();
                assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
                Ok::<_, DbError>(())
            })
        };
        assert_eq!(db.write(adjust).await.unwrap(), Updates { rows, hot: rows });
    }
}

/// Each of these has its reason in docs/decisions/0035-upkeep-of-tables.md.
#[actix_web::test]
async fn tables_are_stored_as_was_decided() {
    let Some(database) = TestDatabase::postgres() else { return };
    let db = &ProductFixture::new(database).inventory.db;
    let stored = db.read(|conn| storage_parameters(conn).map_err(DbError::from)).await.unwrap();
    assert_eq!(stored["product"], "fillfactor=90");
    for table in ["adjustment", "order_record"] {
        assert_eq!(stored[table], "autovacuum_vacuum_scale_factor=0.03", "{table}");
    }
}
