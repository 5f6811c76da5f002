-- How far a consumer has got is told by the broker's offsets: clocks may run ahead and be set back.

-- Where a SENT event lies in its partition; -1: in a topic that was made anew since. Unknown for what an older release
-- sent.
ALTER TABLE outbox_open ADD COLUMN sent_offset BIGINT;
-- The greatest offset of the partition that was answered.
ALTER TABLE outbox_partition ADD COLUMN acked_offset BIGINT;
-- The same some looks ago: what lies before it has had time for an answer that comes behind another one.
ALTER TABLE outbox_partition ADD COLUMN pending_offset BIGINT;
ALTER TABLE outbox_partition ADD COLUMN passed_offset BIGINT;
ALTER TABLE outbox_partition ADD COLUMN looked_us BIGINT;
