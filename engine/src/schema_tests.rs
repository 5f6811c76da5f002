#![allow(clippy::unwrap_used, reason = "tests")]

use common::db::{DbError, ENGINE_MIGRATIONS, MigrationSet};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use stockloop_tests::schema::check_schema;
use stockloop_tests::storage::storage_parameters;

on_every_database!(std::convert::identity =>
    the_schema_says_what_the_migrations_make,
    two_migrations_of_one_number_are_refused,
);

async fn the_schema_says_what_the_migrations_make(database: TestDatabase) {
    let db = database.open(&[ENGINE_MIGRATIONS]);
    let schema = include_str!("../../common/src/schema.rs");
    let check = move |conn: &mut _| check_schema(conn, schema).map_err(DbError::from);
    assert_eq!(db.read(check).await.unwrap(), [""; 0]);
}

/// A service's own migration with the number of one of the engine's would never run.
async fn two_migrations_of_one_number_are_refused(database: TestDatabase) {
    let db = stockloop_tests::database::open(&database.url());
    let twice: &[MigrationSet] = &[ENGINE_MIGRATIONS, ENGINE_MIGRATIONS];
    let refused = db.migrate(twice).unwrap_err().to_string();
    assert!(refused.contains("two migrations have the number"), "{refused}");
}

/// Each of these has its reason in docs/decisions/0035-upkeep-of-tables.md.
#[actix_web::test]
async fn tables_are_stored_as_was_decided() {
    let Some(database) = TestDatabase::postgres() else { return };
    let db = database.open(&[ENGINE_MIGRATIONS]);
    let stored = db.read(|conn| storage_parameters(conn).map_err(DbError::from)).await.unwrap();
    let walked = "autovacuum_vacuum_scale_factor=0.03";
    let wanted = [
        ("copied_state", "fillfactor=90"),
        ("idempotency", walked),
        ("inbox", walked),
        ("outbox_event", walked),
        ("outbox_settled", walked),
    ];
    let stored: Vec<(&str, &str)> =
        stored.iter().map(|(table, parameters)| (&**table, &**parameters)).collect();
    assert_eq!(stored, wanted);
}
