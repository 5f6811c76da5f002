-- Who is asked for answers: one row per service that reads this service's events.
CREATE TABLE consumer (
    name           TEXT PRIMARY KEY,
    required       BOOLEAN NOT NULL,         -- an event is PROCESSED once every required consumer has answered it
    since_id       TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',  -- the first event that it owes an answer
    state          SMALLINT NOT NULL DEFAULT 0,  -- 0 active, 1 retired
    letting_off    BOOLEAN NOT NULL DEFAULT FALSE,   -- it owes nothing any more, and what waits for it alone is settled
    cursor         TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',  -- how far that has got
    let_off        BIGINT NOT NULL DEFAULT 0,    -- events that were settled without its answer
    registered_us  BIGINT NOT NULL,
    registered_by  TEXT NOT NULL,
    changed_us     BIGINT,                   -- when somebody last made it required or watched, or retired it
    changed_by     TEXT,
    reason         TEXT
);

-- What the single consumers said, where more than one is asked; a watched one only has the lines of what it failed.
CREATE TABLE outbox_answer (
    event_id       TEXT NOT NULL,
    consumer       TEXT NOT NULL,
    outcome        SMALLINT NOT NULL,        -- 0 success, 1 rejected, 2 failed
    attempt        INTEGER NOT NULL,         -- the newest one that it answered
    failures       INTEGER NOT NULL DEFAULT 0,
    detail         TEXT,
    error          TEXT,                     -- of its newest failure
    version        BIGINT,
    result         TEXT,
    processed_us   BIGINT NOT NULL,
    PRIMARY KEY (event_id, consumer)
);
CREATE INDEX outbox_answer_failed ON outbox_answer (consumer, event_id) WHERE outcome = 2;

-- Per consumer and partition of the outgoing topic: how far it has got.
CREATE TABLE consumer_partition (
    topic          TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    consumer       TEXT NOT NULL,            -- '': whoever the settings name, until the service knows
    last_ack_us    BIGINT NOT NULL,
    silent_us      BIGINT,                   -- since when it gives no acks, if it does not
    probe_due_us   BIGINT,
    probes         INTEGER NOT NULL DEFAULT 0,
    acked_offset   BIGINT,                   -- the greatest that it answered
    pending_offset BIGINT,                   -- that at the last look
    passed_offset  BIGINT,                   -- that at the look before: what lies before it was passed by
    looked_us      BIGINT,
    behind_us      BIGINT,                   -- a watched one: since when it has more to answer, and answers nothing
    PRIMARY KEY (topic, partition, consumer)
);
INSERT INTO consumer_partition (topic, partition, consumer, last_ack_us, silent_us, probe_due_us, probes,
    acked_offset, pending_offset, passed_offset, looked_us)
SELECT topic, partition, '', last_ack_us, silent_us, probe_due_us, probes,
    acked_offset, pending_offset, passed_offset, looked_us FROM outbox_partition;

-- Whose failure a line tells of.
ALTER TABLE outbox_history ADD COLUMN consumer TEXT;

-- A copy of another service's keys, for services that bring no table of their own for it.
CREATE TABLE copied_state (
    key         TEXT PRIMARY KEY,
    removed     BOOLEAN NOT NULL,            -- a tombstone, so that an older state that comes late changes nothing
    epoch       BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    updated_us  BIGINT NOT NULL,             -- when it became so, by the owner's clock
    content     TEXT NOT NULL                -- JSON: the values of what the service keeps, in the order of its fields
);
