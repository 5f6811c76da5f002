-- The copy of product-service's inventory. A removed product stays as a tombstone, so that an older
-- event that comes late finds the version that it must not undo.
CREATE TABLE product_copy (
    sku               TEXT COLLATE "C" PRIMARY KEY,  -- bytewise: the order of paging and of locks is Rust's
    description       TEXT NOT NULL,
    quantity          BIGINT NOT NULL,
    unit_price_minor  BIGINT NOT NULL,       -- pence, cents: whole minor units
    allow_backorder   BOOLEAN NOT NULL DEFAULT FALSE,
    removed           BOOLEAN NOT NULL DEFAULT FALSE,
    epoch             BIGINT NOT NULL,
    version           BIGINT NOT NULL,
    updated_us        BIGINT NOT NULL,       -- when it changed at the source, by its clock
    applied_us        BIGINT NOT NULL        -- when the change arrived here, by our clock
);

-- What people and tools look for: the products there are.
CREATE VIEW inventory AS
SELECT sku, description, quantity, unit_price_minor, allow_backorder, version,
       to_timestamp(updated_us / 1000000.0) AS updated_at,
       to_timestamp(applied_us / 1000000.0) AS applied_at
FROM product_copy WHERE NOT removed;
