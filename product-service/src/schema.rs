//! This service's own tables as diesel sees them; `migrations/product` makes them.

#![allow(
    missing_docs,
    reason = "the columns are described where they are made, in migrations/product"
)]

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
