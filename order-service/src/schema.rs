//! This service's own tables as diesel sees them; `migrations/order` makes them.

#![allow(
    missing_docs,
    reason = "the columns are described where they are made, in migrations/order"
)]

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
