DROP TABLE customer_purchases;
