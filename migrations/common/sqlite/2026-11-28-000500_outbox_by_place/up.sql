-- An event that is not settled lies in one of three tables, by what it waits for, so that none stands in another's way.

-- Counts what is appended: with one writer, that is the order of commits.
ALTER TABLE service_state ADD COLUMN appended BIGINT NOT NULL DEFAULT 0;

-- For its first send. Read shard by shard in the order of `tx`, which `service_state.appended` counts.
CREATE TABLE outbox_pending (
    id             TEXT PRIMARY KEY,
    shard          SMALLINT NOT NULL,
    tx             BIGINT NOT NULL DEFAULT 0,
    attempt_limit  INTEGER NOT NULL,
    due_us         BIGINT NOT NULL,          -- when it was committed, by its writer's clock
    size           INTEGER NOT NULL          -- bytes of the payload
) WITHOUT ROWID;
CREATE INDEX outbox_pending_shard ON outbox_pending (shard, tx, id);

-- For its consumer's answer; what is in flight is capped, so this table stays small.
CREATE TABLE outbox_sent (
    id             TEXT PRIMARY KEY,
    shard          SMALLINT NOT NULL,
    attempt        INTEGER NOT NULL,
    attempt_limit  INTEGER NOT NULL,
    partition      INTEGER NOT NULL,
    sent_us        BIGINT NOT NULL,
    -- Where it lies in its partition; -1: in a topic that was made anew since. Unknown where the broker did not say.
    sent_offset    BIGINT,
    size           INTEGER NOT NULL,
    CHECK (attempt <= attempt_limit)
) WITHOUT ROWID;

-- For another attempt (status 0), or for a person (status 2).
CREATE TABLE outbox_failed (
    id             TEXT PRIMARY KEY,
    shard          SMALLINT NOT NULL,
    status         SMALLINT NOT NULL,
    attempt        INTEGER NOT NULL,
    attempt_limit  INTEGER NOT NULL,
    due_us         BIGINT NOT NULL,
    partition      INTEGER,
    sent_us        BIGINT,
    sent_offset    BIGINT,
    size           INTEGER NOT NULL,
    resolved_us    BIGINT,
    CHECK (status IN (0, 2)),
    CHECK (attempt <= attempt_limit)
) WITHOUT ROWID;
CREATE INDEX outbox_failed_due ON outbox_failed (shard, due_us, id) WHERE status = 0;
CREATE INDEX outbox_failed_again ON outbox_failed (id) WHERE status = 0;
CREATE INDEX outbox_failed_exhausted ON outbox_failed (id) WHERE status = 2;
CREATE INDEX outbox_failed_resolved ON outbox_failed (resolved_us) WHERE resolved_us IS NOT NULL;

INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size)
SELECT id, shard, attempt_limit, due_us, size FROM outbox_open WHERE status = 0 AND attempt = 0;
INSERT INTO outbox_sent (id, shard, attempt, attempt_limit, partition, sent_us, sent_offset, size)
SELECT id, shard, attempt, attempt_limit, COALESCE(partition, 0), COALESCE(sent_us, due_us), sent_offset, size
FROM outbox_open WHERE status = 1;
INSERT INTO outbox_failed
    (id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, sent_offset, size, resolved_us)
SELECT id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, sent_offset, size, resolved_us
FROM outbox_open WHERE status = 2 OR (status = 0 AND attempt > 0);

DROP VIEW outbox;
DROP TABLE outbox_open;

-- All that is not settled, wherever it lies; to be read only.
CREATE VIEW outbox_open AS
SELECT id, shard, CAST(0 AS SMALLINT) AS status, CAST(0 AS INTEGER) AS attempt, attempt_limit, due_us,
       CAST(NULL AS INTEGER) AS partition, CAST(NULL AS BIGINT) AS sent_us, size,
       CAST(NULL AS BIGINT) AS resolved_us, CAST(NULL AS BIGINT) AS sent_offset
FROM outbox_pending
UNION ALL
SELECT id, shard, CAST(1 AS SMALLINT), attempt, attempt_limit, sent_us, partition, sent_us, size,
       CAST(NULL AS BIGINT), sent_offset
FROM outbox_sent
UNION ALL
SELECT id, shard, status, attempt, attempt_limit, due_us, partition, sent_us, size, resolved_us, sent_offset
FROM outbox_failed;

-- The outbox as people and tools look for it: one row and one status per event.
CREATE VIEW outbox AS
SELECT e.id,
       CASE WHEN p.id IS NOT NULL OR f.status = 0 THEN 'PENDING'
            WHEN w.id IS NOT NULL THEN 'SENT'
            WHEN f.status = 2 THEN 'EXHAUSTED'
            WHEN s.id IS NOT NULL THEN 'PROCESSED' END AS status,
       e.event_type, e.key, e.epoch, e.version, e.payload,
       COALESCE(s.attempt, w.attempt, f.attempt, 0) AS attempt,
       COALESCE(p.attempt_limit, w.attempt_limit, f.attempt_limit) AS attempt_limit,
       COALESCE(w.partition, f.partition, s.partition) AS partition,
       strftime('%Y-%m-%d %H:%M:%fZ', e.created_us / 1000000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%d %H:%M:%fZ', COALESCE(w.sent_us, f.sent_us, s.sent_us) / 1000000.0, 'unixepoch') AS sent_at,
       strftime('%Y-%m-%d %H:%M:%fZ', s.settled_us / 1000000.0, 'unixepoch') AS settled_at,
       strftime('%Y-%m-%d %H:%M:%fZ', COALESCE(p.due_us, f.due_us) / 1000000.0, 'unixepoch') AS due_at,
       CASE s.outcome WHEN 0 THEN 'SUCCESS' WHEN 1 THEN 'REJECTED' END AS outcome,
       s.detail
FROM outbox_event e
LEFT JOIN outbox_pending p ON p.id = e.id
LEFT JOIN outbox_sent w ON w.id = e.id
LEFT JOIN outbox_failed f ON f.id = e.id
LEFT JOIN outbox_settled s ON s.id = e.id;
