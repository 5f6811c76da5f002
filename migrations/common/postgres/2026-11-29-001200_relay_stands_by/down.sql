ALTER TABLE relay_member DROP COLUMN stands_by;
