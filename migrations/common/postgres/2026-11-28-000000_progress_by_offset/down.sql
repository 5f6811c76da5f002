ALTER TABLE outbox_partition DROP COLUMN acked_offset;
ALTER TABLE outbox_open DROP COLUMN sent_offset;
