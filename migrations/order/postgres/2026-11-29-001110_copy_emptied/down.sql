DROP TRIGGER product_copy_deleted ON product_copy;
DROP TRIGGER product_copy_truncated ON product_copy;
DROP FUNCTION product_copy_truncated();
CREATE OR REPLACE FUNCTION copy_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM product_copy) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER product_copy_deleted AFTER DELETE ON product_copy FOR EACH STATEMENT EXECUTE FUNCTION copy_emptied();
CREATE TRIGGER product_copy_truncated AFTER TRUNCATE ON product_copy FOR EACH STATEMENT EXECUTE FUNCTION copy_emptied();
