-- Retention walks over what it deleted until that is vacuumed. This comes first: it waits for a vacuum that is under way, and
-- nobody has to wait for `product_copy` meanwhile.
ALTER TABLE orders SET (autovacuum_vacuum_scale_factor = 0.03);

-- Each state that arrives rewrites its product's row, and each order what is reserved of it. With room in the page, and by
-- nothing that is in an index, that touches no index (HOT).
ALTER TABLE product_copy SET (fillfactor = 90);

-- When a tombstone arrived; NULL of all others. An index on `applied_us`, of tombstones only though it was, had each state that
-- arrived touch all indexes: what a partial index holds counts as changed in every row.
DROP INDEX product_copy_removed;
ALTER TABLE product_copy ADD COLUMN removed_us BIGINT
    GENERATED ALWAYS AS (CASE WHEN removed THEN applied_us END) STORED;
CREATE INDEX product_copy_removed ON product_copy (removed_us) WHERE removed_us IS NOT NULL;
