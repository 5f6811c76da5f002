-- The greatest offset that the consumer answered itself; acked_offset is also where others were when it began to be watched.
ALTER TABLE consumer_partition ADD COLUMN shown_offset BIGINT;
UPDATE consumer_partition SET shown_offset = acked_offset WHERE last_ack_us > 0;
