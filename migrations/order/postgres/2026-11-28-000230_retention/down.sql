DROP INDEX orders_ended;
DROP INDEX product_copy_removed;
