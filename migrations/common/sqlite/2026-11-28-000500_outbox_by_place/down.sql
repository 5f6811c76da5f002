DROP VIEW outbox;
CREATE TABLE outbox_before AS SELECT * FROM outbox_open;
DROP VIEW outbox_open;
DROP TABLE outbox_failed;
DROP TABLE outbox_sent;
DROP TABLE outbox_pending;
CREATE TABLE outbox_open (
    id             TEXT PRIMARY KEY,
    shard          SMALLINT NOT NULL,
    status         SMALLINT NOT NULL,        -- 0 PENDING, 1 SENT, 2 EXHAUSTED
    attempt        INTEGER NOT NULL,
    attempt_limit  INTEGER NOT NULL,
    due_us         BIGINT NOT NULL,
    partition      INTEGER,
    sent_us        BIGINT,
    size           INTEGER NOT NULL,         -- bytes of the payload
    resolved_us    BIGINT,
    sent_offset    BIGINT,
    CHECK (attempt <= attempt_limit)
) WITHOUT ROWID;
CREATE INDEX outbox_open_resolved ON outbox_open (resolved_us) WHERE resolved_us IS NOT NULL;
INSERT INTO outbox_open
    (id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, size, resolved_us, sent_offset)
SELECT id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, size, resolved_us, sent_offset
FROM outbox_before;
DROP TABLE outbox_before;

-- The outbox as people and tools look for it: one row and one status per event.
CREATE VIEW outbox AS
SELECT e.id,
       CASE WHEN o.id IS NULL THEN 'PROCESSED'
            WHEN o.status = 0 THEN 'PENDING'
            WHEN o.status = 1 THEN 'SENT'
            ELSE 'EXHAUSTED' END AS status,
       e.event_type, e.key, e.epoch, e.version, e.payload,
       COALESCE(o.attempt, s.attempt) AS attempt, o.attempt_limit,
       COALESCE(o.partition, s.partition) AS partition,
       strftime('%Y-%m-%d %H:%M:%fZ', e.created_us / 1000000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%d %H:%M:%fZ', COALESCE(o.sent_us, s.sent_us) / 1000000.0, 'unixepoch') AS sent_at,
       strftime('%Y-%m-%d %H:%M:%fZ', s.settled_us / 1000000.0, 'unixepoch') AS settled_at,
       strftime('%Y-%m-%d %H:%M:%fZ', o.due_us / 1000000.0, 'unixepoch') AS due_at,
       CASE s.outcome WHEN 0 THEN 'SUCCESS' WHEN 1 THEN 'REJECTED' END AS outcome,
       s.detail
FROM outbox_event e
LEFT JOIN outbox_open o ON o.id = e.id
LEFT JOIN outbox_settled s ON s.id = e.id;
ALTER TABLE service_state DROP COLUMN appended;
