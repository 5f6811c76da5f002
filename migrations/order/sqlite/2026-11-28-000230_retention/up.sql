-- By age, for what goes when it is old.
CREATE INDEX product_copy_removed ON product_copy (applied_us) WHERE removed;
CREATE INDEX orders_ended ON orders (changed_us) WHERE status IN ('CONFIRMED', 'REJECTED', 'CANCELLED');
