DROP INDEX product_copy_removed;
ALTER TABLE product_copy DROP COLUMN removed_us;
CREATE INDEX product_copy_removed ON product_copy (applied_us) WHERE removed;
ALTER TABLE product_copy RESET (fillfactor);
ALTER TABLE orders RESET (autovacuum_vacuum_scale_factor);
