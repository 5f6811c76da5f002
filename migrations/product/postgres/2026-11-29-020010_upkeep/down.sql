DROP INDEX product_removed;
ALTER TABLE product DROP COLUMN removed_us;
CREATE INDEX product_removed ON product (updated_us) WHERE removed;
ALTER TABLE product RESET (fillfactor);
ALTER TABLE order_record RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE adjustment RESET (autovacuum_vacuum_scale_factor);
