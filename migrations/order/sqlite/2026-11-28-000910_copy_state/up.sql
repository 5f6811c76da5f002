-- A copy that is there already is complete: to update the program must not stop orders.
INSERT INTO copy_state (copy_id, complete_us, complete_by)
SELECT lower(hex(randomblob(16))),
       CASE WHEN EXISTS (SELECT 1 FROM product_copy) THEN CAST(strftime('%s', 'now') AS INTEGER) * 1000000 END,
       CASE WHEN EXISTS (SELECT 1 FROM product_copy) THEN 'the update' END;

-- A copy that is emptied, by whatever means, is another one, which is not complete.
CREATE TRIGGER product_copy_deleted AFTER DELETE ON product_copy WHEN NOT EXISTS (SELECT 1 FROM product_copy)
BEGIN
    UPDATE copy_state SET copy_id = lower(hex(randomblob(16))), complete_us = NULL, complete_by = NULL;
END;

-- What is promised of a product is summed up again when it comes back to a copy that was emptied.
CREATE INDEX reservation_sku ON reservation (sku);
