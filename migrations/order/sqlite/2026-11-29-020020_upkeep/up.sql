-- When a tombstone arrived; NULL of all others.
DROP INDEX product_copy_removed;
ALTER TABLE product_copy ADD COLUMN removed_us BIGINT
    GENERATED ALWAYS AS (CASE WHEN removed THEN applied_us END) VIRTUAL;
CREATE INDEX product_copy_removed ON product_copy (removed_us) WHERE removed_us IS NOT NULL;
