-- Who deletes all keys with one statement has emptied the copy, though a new one may arrive meanwhile: so it is a copy of
-- which a statement takes away more than it leaves. What retention forgets are tombstones only.
CREATE OR REPLACE FUNCTION copy_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken BIGINT;
BEGIN
    SELECT count(*) INTO taken FROM gone WHERE NOT removed;
    IF (taken > 0 AND taken > (SELECT count(*) FROM (SELECT 1 FROM product_copy LIMIT taken) AS rest))
       OR NOT EXISTS (SELECT 1 FROM product_copy) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION product_copy_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    RETURN NULL;
END
$$;
DROP TRIGGER product_copy_deleted ON product_copy;
DROP TRIGGER product_copy_truncated ON product_copy;
CREATE TRIGGER product_copy_deleted AFTER DELETE ON product_copy REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION copy_emptied();
CREATE TRIGGER product_copy_truncated AFTER TRUNCATE ON product_copy FOR EACH STATEMENT EXECUTE FUNCTION product_copy_truncated();
