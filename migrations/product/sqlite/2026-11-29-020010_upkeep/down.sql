DROP INDEX product_removed;
ALTER TABLE product DROP COLUMN removed_us;
CREATE INDEX product_removed ON product (updated_us) WHERE removed;
