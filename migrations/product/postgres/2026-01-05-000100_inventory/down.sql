DROP TABLE adjustment;
DROP VIEW inventory;
DROP TABLE product;
