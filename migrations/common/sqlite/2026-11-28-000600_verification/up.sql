-- Whether the copies equal what this service owns: each comparison with a consumer, and what differed.
CREATE TABLE verification (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer       TEXT NOT NULL,
    keys_of        BIGINT,                   -- compares only the differences of that one; NULL: every key
    share          INTEGER NOT NULL,         -- how much of the time it may work, in thousandths
    state          SMALLINT NOT NULL,        -- 0 waiting, 1 comparing, 2 looking again, 3 equal, 4 different, 5 unknown, 6 cancelled
    cursor         TEXT,         -- the key up to which ranges are compared
    keys           BIGINT NOT NULL DEFAULT 0,    -- of the owner, compared so far
    differences    BIGINT NOT NULL DEFAULT 0,
    waiting        BIGINT NOT NULL DEFAULT 0,    -- keys whose events were open at its end
    cut            BOOLEAN NOT NULL DEFAULT FALSE,   -- more differ than are listed
    reason         TEXT,                     -- why it is unknown
    created_us     BIGINT NOT NULL,
    created_by     TEXT NOT NULL,
    created_via    TEXT NOT NULL,
    started_us     BIGINT,                   -- what was committed before is compared
    compared_us    BIGINT,                   -- when the last range was
    answered_us    BIGINT,                   -- when the consumer answered last
    ended_us       BIGINT,
    ended_by       TEXT,                     -- who cancelled it
    holder         TEXT,                     -- the instance that works on it, by the database's own time
    held_until_us  BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX verification_open ON verification (consumer) WHERE ended_us IS NULL AND keys_of IS NULL;
CREATE INDEX verification_unended ON verification (seq) WHERE ended_us IS NULL;
CREATE INDEX verification_consumer ON verification (consumer, seq);
CREATE INDEX verification_ended ON verification (ended_us) WHERE ended_us IS NOT NULL;

-- Keys that differ, or that have to be looked at again.
CREATE TABLE verification_key (
    verification   BIGINT NOT NULL REFERENCES verification (seq) ON DELETE CASCADE,
    key            TEXT NOT NULL,
    finding        TEXT NOT NULL,            -- moving (not decided yet), waiting, missing, unknown, older, newer or content
    looks          INTEGER NOT NULL,
    due_us         BIGINT NOT NULL,          -- when to look again
    owner_version  BIGINT,
    owner_removed  BOOLEAN,
    copy_epoch     BIGINT,
    copy_version   BIGINT,
    copy_removed   BOOLEAN,
    event_id       TEXT,                     -- the event that should have brought the owner's version, if it is open
    found_us       BIGINT NOT NULL,
    PRIMARY KEY (verification, key)
);
CREATE INDEX verification_key_due ON verification_key (verification, due_us) WHERE finding = 'moving';

-- States sent again, key by key; any instance goes on where one stopped.
CREATE TABLE resync_job (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    kind           TEXT NOT NULL,            -- repair, resync or restored
    selection      TEXT NOT NULL,            -- JSON: which keys
    reason         TEXT,
    state          SMALLINT NOT NULL,        -- 0 waiting, 1 running, 2 done, 3 cancelled
    expected       BIGINT,                   -- how many keys it was said to send, if that is known
    done           BIGINT NOT NULL DEFAULT 0,
    skipped        BIGINT NOT NULL DEFAULT 0,
    cursor         TEXT,         -- the key that it has got to
    verification   BIGINT,                   -- the one that it ends with
    created_us     BIGINT NOT NULL,
    created_by     TEXT NOT NULL,
    created_via    TEXT NOT NULL,
    started_us     BIGINT,
    ended_us       BIGINT,
    ended_by       TEXT                      -- who cancelled it
);
CREATE INDEX resync_job_open ON resync_job (seq) WHERE state < 2;

-- Keys that a job left as they are.
CREATE TABLE resync_skipped (
    job   BIGINT NOT NULL REFERENCES resync_job (seq) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    why   TEXT NOT NULL,
    PRIMARY KEY (job, key)
);
