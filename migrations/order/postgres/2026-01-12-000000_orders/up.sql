-- Orders as the customers know them. The status follows from how far the order's two commands are.
CREATE TABLE orders (
    id            UUID PRIMARY KEY,
    customer      TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN
                  ('PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLING', 'CANCELLED', 'NEEDS_ATTENTION')),
    placement     TEXT NOT NULL CHECK (placement IN ('OPEN', 'CONFIRMED', 'REJECTED', 'EXHAUSTED')),
    cancellation  TEXT CHECK (cancellation IN ('OPEN', 'DONE', 'REJECTED', 'EXHAUSTED', 'RESOLVED')),
    revision      BIGINT NOT NULL,               -- 1, and one more with each step
    placed_us     BIGINT NOT NULL,
    changed_us    BIGINT NOT NULL
);
CREATE INDEX orders_status ON orders (status, id);
CREATE INDEX orders_customer ON orders (customer, id);

-- What was ordered, each product once.
CREATE TABLE order_line (
    order_id  UUID NOT NULL,
    sku       TEXT COLLATE "C" NOT NULL,
    quantity  BIGINT NOT NULL CHECK (quantity > 0),
    version   BIGINT,                          -- of the product, after the deduction
    reason    TEXT,                            -- why the owner refused this line
    detail    TEXT,                            -- the same in words
    PRIMARY KEY (order_id, sku)
);

-- The order's timeline.
CREATE TABLE order_step (
    order_id  UUID NOT NULL,
    revision  BIGINT NOT NULL,
    at_us     BIGINT NOT NULL,
    status    TEXT NOT NULL,                   -- from then on
    what      TEXT NOT NULL,
    note      TEXT,
    PRIMARY KEY (order_id, revision)
);

-- What is promised and not yet deducted in the copy: a row goes when the copy holds its deduction.
CREATE TABLE reservation (
    order_id  UUID NOT NULL,
    sku       TEXT COLLATE "C" NOT NULL,
    quantity  BIGINT NOT NULL CHECK (quantity > 0),
    epoch     BIGINT,                          -- of the version
    version   BIGINT,                          -- of the product, after the deduction, once that is known
    PRIMARY KEY (order_id, sku)
);
CREATE INDEX reservation_known ON reservation (sku) WHERE version IS NOT NULL;

-- The sum of a product's reservations, kept with its row, so that no read adds them up.
ALTER TABLE product_copy ADD COLUMN reserved BIGINT NOT NULL DEFAULT 0;

DROP VIEW inventory;
CREATE VIEW inventory AS
SELECT sku, description, quantity, reserved, quantity - reserved AS available, unit_price_minor,
       allow_backorder, version,
       to_timestamp(updated_us / 1000000.0) AS updated_at,
       to_timestamp(applied_us / 1000000.0) AS applied_at
FROM product_copy WHERE NOT removed;
