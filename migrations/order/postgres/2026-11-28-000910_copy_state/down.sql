DROP INDEX reservation_sku;
DROP TRIGGER product_copy_truncated ON product_copy;
DROP TRIGGER product_copy_deleted ON product_copy;
DROP FUNCTION copy_emptied();
DELETE FROM copy_state;
