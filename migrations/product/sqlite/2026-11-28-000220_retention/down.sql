DROP INDEX product_removed;
