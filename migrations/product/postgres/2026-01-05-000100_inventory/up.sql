-- The inventory: the truth. A removed product keeps its row as a tombstone, so that its versions go on.
CREATE TABLE product (
    sku               TEXT COLLATE "C" PRIMARY KEY,  -- bytewise: the order of paging and of locks is Rust's
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
       to_timestamp(updated_us / 1000000.0) AS updated_at
FROM product WHERE NOT removed;

-- Every accepted adjustment, with why.
CREATE TABLE adjustment (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku         TEXT COLLATE "C" NOT NULL,
    delta       BIGINT NOT NULL,
    quantity    BIGINT NOT NULL,             -- after it
    version     BIGINT NOT NULL,             -- after it
    reason      TEXT NOT NULL,
    reference   TEXT,
    at_us       BIGINT NOT NULL
);
CREATE INDEX adjustment_sku ON adjustment (sku, seq);
