-- How far a consumer has got is told by the broker's offsets: clocks may run ahead and be set back.

-- Where a SENT event lies in its partition.
ALTER TABLE outbox_open ADD COLUMN sent_offset BIGINT;
-- The greatest offset of the partition that was answered; unknown until then, and after the topic was made anew.
ALTER TABLE outbox_partition ADD COLUMN acked_offset BIGINT;
