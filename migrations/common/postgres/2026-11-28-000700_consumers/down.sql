DROP TABLE copied_state;
ALTER TABLE outbox_history DROP COLUMN consumer;
DROP TABLE consumer_partition;
DROP TABLE outbox_answer;
DROP TABLE consumer;
