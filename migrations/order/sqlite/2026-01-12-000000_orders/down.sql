DROP VIEW inventory;
ALTER TABLE product_copy DROP COLUMN reserved;
CREATE VIEW inventory AS
SELECT sku, description, quantity, unit_price_minor, allow_backorder, version,
       strftime('%Y-%m-%d %H:%M:%fZ', updated_us / 1000000.0, 'unixepoch') AS updated_at,
       strftime('%Y-%m-%d %H:%M:%fZ', applied_us / 1000000.0, 'unixepoch') AS applied_at
FROM product_copy WHERE NOT removed;
DROP TABLE reservation;
DROP TABLE order_step;
DROP TABLE order_line;
DROP TABLE orders;
