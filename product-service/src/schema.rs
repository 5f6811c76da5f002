//! This service's own tables: the migrations that make them, and how diesel sees them.

#![allow(
    missing_docs,
    reason = "the columns are described where they are made, in migrations/product"
)]

use common::db::{EmbeddedMigrations, MigrationSet, embed_migrations};

static POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/product/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/product/sqlite");

/// The migrations that make this service's own tables; run after [`common::db::ENGINE_MIGRATIONS`].
pub const MIGRATIONS: MigrationSet = MigrationSet { postgres: &POSTGRES, sqlite: &SQLITE };

diesel::table! {
    product (sku) {
        sku -> Text,
        description -> Text,
        quantity -> BigInt,
        unit_price_minor -> BigInt,
        allow_backorder -> Bool,
        removed -> Bool,
        version -> BigInt,
        updated_us -> BigInt,
        removed_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    product_detail (sku) {
        sku -> Text,
        long_description -> Nullable<Text>,
        supplier -> Nullable<Text>,
    }
}

diesel::table! {
    adjustment (seq) {
        seq -> BigInt,
        sku -> Text,
        delta -> BigInt,
        quantity -> BigInt,
        version -> BigInt,
        reason -> Text,
        reference -> Nullable<Text>,
        at_us -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    order_record (id) {
        id -> EventIdSql,
        state -> Text,
        epoch -> BigInt,
        refusal -> Nullable<Text>,
        handled_us -> BigInt,
        cancelled_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    order_deduction (order_id, sku) {
        order_id -> EventIdSql,
        sku -> Text,
        quantity -> BigInt,
        version -> BigInt,
        returned_version -> Nullable<BigInt>,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::db::{DbError, ENGINE_MIGRATIONS};
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::schema::check_schema;

    use super::MIGRATIONS;

    async fn is_what_the_migrations_make(database: TestDatabase) {
        let db = database.open(&[ENGINE_MIGRATIONS, MIGRATIONS]);
        let check =
            |conn: &mut _| check_schema(conn, include_str!("schema.rs")).map_err(DbError::from);
        assert_eq!(db.read(check).await.unwrap(), [""; 0]);
    }

    stockloop_tests::on_every_database!(std::convert::identity => is_what_the_migrations_make);
}
