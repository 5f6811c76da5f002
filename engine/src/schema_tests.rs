#![allow(clippy::unwrap_used, reason = "tests")]

use common::db::{DbError, ENGINE_MIGRATIONS, MigrationSet};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use stockloop_tests::schema::check_schema;

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
