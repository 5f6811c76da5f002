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
    }
}
