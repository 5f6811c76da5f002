DROP VIEW inventory;
DROP TABLE product_copy;
