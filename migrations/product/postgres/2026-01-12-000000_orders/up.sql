-- Orders as their commands arrived here. A row stays as long as the order may be spoken of: it is what makes
-- a command that comes again, however late, find the answer that it was given.
CREATE TABLE order_record (
    id            UUID PRIMARY KEY,           -- the order's id, made by order-service
    state         TEXT NOT NULL CHECK (state IN ('DEDUCTED', 'REFUSED', 'RETURNED', 'CANCELLED')),
    epoch         BIGINT NOT NULL,             -- of the deduction's versions
    refusal       TEXT,                        -- why it was REFUSED, JSON
    handled_us    BIGINT NOT NULL,             -- when its first command was handled
    cancelled_us  BIGINT                       -- when it was RETURNED, or CANCELLED before it had come
);

-- What an order took of each product: all its lines or none.
CREATE TABLE order_deduction (
    order_id          UUID NOT NULL,
    sku               TEXT COLLATE "C" NOT NULL,
    quantity          BIGINT NOT NULL CHECK (quantity > 0),
    version           BIGINT NOT NULL,         -- of the product, after the deduction
    returned_version  BIGINT,                  -- of the product, after it was given back
    PRIMARY KEY (order_id, sku)
);
