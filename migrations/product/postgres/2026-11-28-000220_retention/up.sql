-- By age, for what goes when it is old.
CREATE INDEX product_removed ON product (updated_us) WHERE removed;
