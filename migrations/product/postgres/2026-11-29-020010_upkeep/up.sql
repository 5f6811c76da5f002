-- Retention walks over what it deleted until that is vacuumed. This comes first: it waits for a vacuum that is under way, and
-- nobody has to wait for `product` meanwhile.
ALTER TABLE adjustment SET (autovacuum_vacuum_scale_factor = 0.03);
ALTER TABLE order_record SET (autovacuum_vacuum_scale_factor = 0.03);

-- Each change of the stock rewrites its product's row. With room in the page, and by nothing that is in an index, that
-- touches no index (HOT).
ALTER TABLE product SET (fillfactor = 90);

-- When a tombstone became one; NULL of all others. An index on `updated_us`, of tombstones only though it was, had each change
-- of the stock touch all indexes: what a partial index holds counts as changed in every row.
DROP INDEX product_removed;
ALTER TABLE product ADD COLUMN removed_us BIGINT
    GENERATED ALWAYS AS (CASE WHEN removed THEN updated_us END) STORED;
CREATE INDEX product_removed ON product (removed_us) WHERE removed_us IS NOT NULL;
