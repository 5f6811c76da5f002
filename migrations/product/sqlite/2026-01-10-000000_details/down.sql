DROP TABLE product_detail;
