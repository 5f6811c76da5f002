-- The engine's tables, the same in both services. Moments are microseconds since 1970 in UTC (`_us`);
-- the views at the end show them as timestamps.

-- What the service knows of itself: the epoch is raised after a restore from a backup.
CREATE TABLE service_state (
    only_row  SMALLINT PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    epoch     BIGINT NOT NULL DEFAULT 1
);
INSERT INTO service_state (only_row) VALUES (1);

-- One row per event, appended with the change and never updated.
CREATE TABLE outbox_event (
    id           UUID PRIMARY KEY,
    kind         SMALLINT NOT NULL,          -- 0 snapshot, 1 command
    event_type   TEXT NOT NULL,
    key          TEXT NOT NULL,
    epoch        BIGINT NOT NULL,
    version      BIGINT NOT NULL,            -- of the key; 0 for commands
    payload      TEXT NOT NULL,
    traceparent  TEXT,
    created_us   BIGINT NOT NULL
);
CREATE INDEX outbox_event_key ON outbox_event (key, id);

-- One narrow row per event that is not settled; deleted when it is. No index on what changes, so updates
-- stay in the page (HOT), and the table stays as small as what is open.
CREATE TABLE outbox_open (
    id             UUID PRIMARY KEY,
    shard          SMALLINT NOT NULL,
    status         SMALLINT NOT NULL,        -- 0 PENDING, 1 SENT, 2 EXHAUSTED
    attempt        INTEGER NOT NULL,
    attempt_limit  INTEGER NOT NULL,
    due_us         BIGINT NOT NULL,
    partition      INTEGER,
    sent_us        BIGINT,
    size           INTEGER NOT NULL,         -- bytes of the payload
    resolved_us    BIGINT,
    CHECK (attempt <= attempt_limit)
) WITH (fillfactor = 50);

-- One row per event that is PROCESSED, appended.
CREATE TABLE outbox_settled (
    id            UUID PRIMARY KEY,
    outcome       SMALLINT NOT NULL,         -- 0 SUCCESS, 1 REJECTED
    detail        TEXT,
    attempt       INTEGER NOT NULL,
    partition     INTEGER,
    sent_us       BIGINT,
    settled_us    BIGINT NOT NULL,
    processed_us  BIGINT,                    -- when the consumer applied it, by its clock
    version       BIGINT,                    -- of the copy, as the ack told it
    consumer      TEXT NOT NULL,
    result        TEXT
);

-- What happened to an event besides the straight way: failures, lateness, operators.
CREATE TABLE outbox_history (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   UUID NOT NULL,
    at_us      BIGINT NOT NULL,
    attempt    INTEGER NOT NULL,
    sent_us    BIGINT,
    what       TEXT NOT NULL,
    error      TEXT,
    by_whom    TEXT
);
CREATE INDEX outbox_history_event ON outbox_history (event_id, seq);

-- Per partition of the outgoing topic: how far its consumer has got, by the time of sending.
CREATE TABLE outbox_partition (
    topic          TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    acked_sent_us  BIGINT NOT NULL,
    last_ack_us    BIGINT NOT NULL,
    silent_us      BIGINT,                   -- since when it gives no acks, if it does not
    probe_due_us   BIGINT,
    probes         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);

-- Which relay sends which shard; moments here are the database's own time.
CREATE TABLE relay_lease (
    shard       SMALLINT PRIMARY KEY,
    owner       TEXT NOT NULL,
    token       BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL
);
INSERT INTO relay_lease (shard, owner, token, expires_us)
SELECT shard, '', 0, 0 FROM generate_series(0, 63) AS shard;
CREATE TABLE relay_member (
    owner       TEXT PRIMARY KEY,
    expires_us  BIGINT NOT NULL
);

-- What was applied (0) or rejected (1), with the answer that a duplicate gets again.
CREATE TABLE inbox (
    event_id      UUID PRIMARY KEY,
    outcome       SMALLINT NOT NULL,
    detail        TEXT,
    version       BIGINT,
    result        TEXT,
    event_type    TEXT NOT NULL,
    key           TEXT NOT NULL,
    processed_us  BIGINT NOT NULL
);

-- Messages that could not be read.
CREATE TABLE dead_letter (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      TEXT NOT NULL,
    partition  INTEGER NOT NULL,
    "offset"   BIGINT NOT NULL,
    hash       TEXT NOT NULL,                -- SHA-256 of the bytes: a new topic of the same name starts at 0 again
    bytes      BYTEA NOT NULL,
    error      TEXT NOT NULL,
    at_us      BIGINT NOT NULL,
    UNIQUE (topic, partition, "offset", hash)
);

-- Keys whose events are answered FAILED until an operator releases them.
CREATE TABLE quarantine (
    key       TEXT PRIMARY KEY,
    reason    TEXT NOT NULL,
    since_us  BIGINT NOT NULL,
    by_whom   TEXT NOT NULL
);

-- What a person has to know of; an exhaustion (event and attempt) has exactly one.
CREATE TABLE alert (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    event_id     UUID,
    event_kind   SMALLINT,
    event_type   TEXT,
    key          TEXT,
    epoch        BIGINT,
    version      BIGINT,
    attempt      INTEGER,
    error        TEXT,
    created_us   BIGINT NOT NULL,
    closed_us    BIGINT,
    closed_because TEXT,
    mail_seq     BIGINT,
    UNIQUE (event_id, attempt)
);
CREATE INDEX alert_open_key ON alert (key) WHERE closed_us IS NULL;
CREATE INDEX alert_unmailed ON alert (seq) WHERE closed_us IS NULL AND mail_seq IS NULL;

-- Mails, fixed before their first try, so that a repeat is recognisable.
CREATE TABLE mail (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id  TEXT NOT NULL UNIQUE,
    recipients  TEXT NOT NULL,               -- a JSON array
    subject     TEXT NOT NULL,
    text        TEXT NOT NULL,
    html        TEXT NOT NULL,
    created_us  BIGINT NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    due_us      BIGINT NOT NULL,
    sent_us     BIGINT,
    last_error  TEXT
);
CREATE INDEX mail_unsent ON mail (due_us) WHERE sent_us IS NULL;

-- Answers to writes that carried an Idempotency-Key, kept with the change.
CREATE TABLE idempotency (
    principal   TEXT NOT NULL,
    route       TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_hash   TEXT NOT NULL,
    status      INTEGER NOT NULL,
    etag        TEXT,
    location    TEXT,
    body        TEXT NOT NULL,
    created_us  BIGINT NOT NULL,
    PRIMARY KEY (principal, route, key)
);
CREATE INDEX idempotency_age ON idempotency (created_us);

-- Counts that grow with each batch; several slots, so that instances do not wait for each other.
CREATE TABLE counter (
    name   TEXT NOT NULL,
    slot   SMALLINT NOT NULL,
    value  BIGINT NOT NULL,
    PRIMARY KEY (name, slot)
);

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
       to_timestamp(e.created_us / 1000000.0) AS created_at,
       to_timestamp(COALESCE(o.sent_us, s.sent_us) / 1000000.0) AS sent_at,
       to_timestamp(s.settled_us / 1000000.0) AS settled_at,
       to_timestamp(o.due_us / 1000000.0) AS due_at,
       CASE s.outcome WHEN 0 THEN 'SUCCESS' WHEN 1 THEN 'REJECTED' END AS outcome,
       s.detail
FROM outbox_event e
LEFT JOIN outbox_open o ON o.id = e.id
LEFT JOIN outbox_settled s ON s.id = e.id;
