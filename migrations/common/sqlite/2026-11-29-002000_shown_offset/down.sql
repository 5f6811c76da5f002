ALTER TABLE consumer_partition DROP COLUMN shown_offset;
