DROP INDEX reservation_sku;
DROP TRIGGER product_copy_deleted;
DELETE FROM copy_state;
