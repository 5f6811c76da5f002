-- The copy of a view that another program keeps on a topic: the last purchases of each customer.
CREATE TABLE customer_purchases (
    customer        TEXT PRIMARY KEY,
    version         BIGINT NOT NULL,
    purchases       TEXT,                    -- JSON, the newest first; NULL: the customer was taken out of the view
    begun_us        BIGINT NOT NULL,         -- with the offset: which of two messages is the later one (view_position)
    partition       INTEGER NOT NULL,
    message_offset  BIGINT NOT NULL,
    written_us      BIGINT NOT NULL,         -- when the message was written, by the clock of its writer or the broker
    stored_us       BIGINT NOT NULL          -- when it arrived here, by our clock
);
