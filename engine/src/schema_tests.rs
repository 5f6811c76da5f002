#![allow(clippy::unwrap_used, reason = "tests")]

use common::db::{DbError, ENGINE_MIGRATIONS};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use stockloop_tests::schema::check_schema;

on_every_database!(std::convert::identity => the_schema_says_what_the_migrations_make);

async fn the_schema_says_what_the_migrations_make(database: TestDatabase) {
    let db = database.open(&[ENGINE_MIGRATIONS]);
    let schema = include_str!("../../common/src/schema.rs");
    let check = move |conn: &mut _| check_schema(conn, schema).map_err(DbError::from);
    assert_eq!(db.read(check).await.unwrap(), [""; 0]);
}
