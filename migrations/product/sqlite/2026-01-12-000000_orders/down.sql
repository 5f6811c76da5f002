DROP TABLE order_deduction;
DROP TABLE order_record;
