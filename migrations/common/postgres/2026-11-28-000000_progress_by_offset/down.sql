ALTER TABLE outbox_partition DROP COLUMN looked_us;
ALTER TABLE outbox_partition DROP COLUMN passed_offset;
ALTER TABLE outbox_partition DROP COLUMN pending_offset;
ALTER TABLE outbox_partition DROP COLUMN acked_offset;
ALTER TABLE outbox_open DROP COLUMN sent_offset;
