-- How far this database has taken each topic, written with each batch: the group's offsets at the broker are never
-- beyond that, unless the database came back from a backup.
CREATE TABLE read_position (
    topic        TEXT NOT NULL,
    partition    INTEGER NOT NULL,
    next_offset  BIGINT NOT NULL,
    at_us        BIGINT NOT NULL,            -- when the last batch was taken
    PRIMARY KEY (topic, partition)
);

-- Databases that came back from a backup: how that was found, and how what they miss is mended.
CREATE TABLE restoration (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    service       TEXT NOT NULL,             -- whose database
    state         SMALLINT NOT NULL,         -- 0 found, 1 running, 2 equal, 3 different, 4 cancelled
    found_us      BIGINT NOT NULL,
    since_us      BIGINT,                    -- when it took something last: what came before is in it
    detail        TEXT NOT NULL,             -- what shows it
    started_us    BIGINT,
    started_by    TEXT,
    started_via   TEXT,
    reason        TEXT,
    epoch         BIGINT,                    -- what the owner's was raised to
    job           BIGINT,                    -- the job that sends states again
    verification  BIGINT,                    -- the newest verification
    consumer      TEXT,                      -- whose copy is being proved, where this service owns the keys
    remote        BIGINT,                    -- its number at the owner, where a copy asked for it
    rounds        INTEGER NOT NULL DEFAULT 0,
    differences   BIGINT NOT NULL DEFAULT 0, -- that the newest verification found
    waits_for     TEXT,                      -- why it does not get on
    due_us        BIGINT NOT NULL,           -- when to go on
    ended_us      BIGINT
);
CREATE UNIQUE INDEX restoration_open ON restoration (service) WHERE ended_us IS NULL;
