-- A copy that is there already is complete: to update the program must not stop orders.
INSERT INTO copy_state (copy_id, complete_us, complete_by)
SELECT gen_random_uuid()::text,
       CASE WHEN EXISTS (SELECT 1 FROM product_copy) THEN (extract(epoch FROM now()) * 1000000)::bigint END,
       CASE WHEN EXISTS (SELECT 1 FROM product_copy) THEN 'the update' END;

-- A copy that is emptied, by whatever means, is another one, which is not complete.
CREATE FUNCTION copy_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM product_copy) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER product_copy_deleted AFTER DELETE ON product_copy FOR EACH STATEMENT EXECUTE FUNCTION copy_emptied();
CREATE TRIGGER product_copy_truncated AFTER TRUNCATE ON product_copy FOR EACH STATEMENT EXECUTE FUNCTION copy_emptied();

-- What is promised of a product is summed up again when it comes back to a copy that was emptied.
CREATE INDEX reservation_sku ON reservation (sku);
