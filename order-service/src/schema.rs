//! This service's own tables: the migrations that make them, and how diesel sees them.

#![allow(
    missing_docs,
    reason = "the columns are described where they are made, in migrations/order"
)]

use common::db::{EmbeddedMigrations, MigrationSet, embed_migrations};

static POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/order/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/order/sqlite");

/// The migrations that make this service's own tables; run after [`common::db::ENGINE_MIGRATIONS`].
pub const MIGRATIONS: MigrationSet = MigrationSet { postgres: &POSTGRES, sqlite: &SQLITE };

diesel::table! {
    product_copy (sku) {
        sku -> Text,
        description -> Text,
        quantity -> BigInt,
        unit_price_minor -> BigInt,
        allow_backorder -> Bool,
        removed -> Bool,
        epoch -> BigInt,
        version -> BigInt,
        updated_us -> BigInt,
        applied_us -> BigInt,
        reserved -> BigInt,
        removed_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    orders (id) {
        id -> EventIdSql,
        customer -> Text,
        status -> Text,
        placement -> Text,
        cancellation -> Nullable<Text>,
        revision -> BigInt,
        placed_us -> BigInt,
        changed_us -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    order_line (order_id, sku) {
        order_id -> EventIdSql,
        sku -> Text,
        quantity -> BigInt,
        version -> Nullable<BigInt>,
        reason -> Nullable<Text>,
        detail -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    order_step (order_id, revision) {
        order_id -> EventIdSql,
        revision -> BigInt,
        at_us -> BigInt,
        status -> Text,
        what -> Text,
        note -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use common::ids::EventIdSql;
    reservation (order_id, sku) {
        order_id -> EventIdSql,
        sku -> Text,
        quantity -> BigInt,
        epoch -> Nullable<BigInt>,
        version -> Nullable<BigInt>,
    }
}

diesel::table! {
    customer_purchases (customer) {
        customer -> Text,
        version -> BigInt,
        purchases -> Nullable<Text>,
        begun_us -> BigInt,
        partition -> Integer,
        message_offset -> BigInt,
        written_us -> BigInt,
        stored_us -> BigInt,
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
