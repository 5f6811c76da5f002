-- SQLite writes a row where it was, and uses the space of deleted ones at once.
SELECT 1;
