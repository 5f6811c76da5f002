-- The inventory: the truth. A removed product keeps its row as a tombstone, so that its versions go on.
CREATE TABLE product (
    sku               TEXT PRIMARY KEY,
    description       TEXT NOT NULL,
    quantity          BIGINT NOT NULL,
    unit_price_minor  BIGINT NOT NULL,       -- pence, cents: whole minor units
    allow_backorder   BOOLEAN NOT NULL DEFAULT FALSE,
    removed           BOOLEAN NOT NULL DEFAULT FALSE,
    version           BIGINT NOT NULL,
    updated_us        BIGINT NOT NULL,
    CHECK (quantity >= 0 OR allow_backorder OR removed),
    CHECK (unit_price_minor >= 0)
);

-- What people and tools look for: the products there are.
CREATE VIEW inventory AS
SELECT sku, description, quantity, unit_price_minor, allow_backorder, version,
       strftime('%Y-%m-%d %H:%M:%fZ', updated_us / 1000000.0, 'unixepoch') AS updated_at
FROM product WHERE NOT removed;

-- Every accepted adjustment, with why.
CREATE TABLE adjustment (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    sku         TEXT NOT NULL,
    delta       BIGINT NOT NULL,
    quantity    BIGINT NOT NULL,             -- after it
    version     BIGINT NOT NULL,             -- after it
    reason      TEXT NOT NULL,
    reference   TEXT,
    at_us       BIGINT NOT NULL
);
CREATE INDEX adjustment_sku ON adjustment (sku, seq);
