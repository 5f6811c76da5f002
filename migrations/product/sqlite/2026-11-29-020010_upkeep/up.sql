-- When a tombstone became one; NULL of all others.
DROP INDEX product_removed;
ALTER TABLE product ADD COLUMN removed_us BIGINT
    GENERATED ALWAYS AS (CASE WHEN removed THEN updated_us END) VIRTUAL;
CREATE INDEX product_removed ON product (removed_us) WHERE removed_us IS NOT NULL;
