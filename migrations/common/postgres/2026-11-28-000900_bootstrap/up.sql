-- Whether the copy in this database is complete; a service without a copy has no row.
CREATE TABLE copy_state (
    only_row      SMALLINT PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    copy_id       TEXT NOT NULL,            -- made at random, and anew when the copy is emptied
    complete_us   BIGINT,                   -- since when it is
    complete_by   TEXT                      -- who said so
);

-- Copies that were filled by their owner: any instance goes on where one stopped.
CREATE TABLE bootstrap (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer      TEXT NOT NULL,
    copy_id       TEXT,                     -- NULL: not asked for yet
    state         SMALLINT NOT NULL,        -- 0 counting, 1 filling, 2 arriving, 3 verifying, 4 telling, 5 done, 6 cancelled
    cursor        TEXT COLLATE "C",                     -- the key up to which keys are counted
    expected      BIGINT NOT NULL DEFAULT 0,    -- keys of the owner at its start
    done          BIGINT NOT NULL DEFAULT 0,    -- of those, sent so far
    job           BIGINT,                   -- the resync_job that sends them
    last_event    UUID,                     -- events up to this one have to be answered
    verification  BIGINT,
    rounds        INTEGER NOT NULL DEFAULT 0,   -- how often it was verified and differed
    due_us        BIGINT NOT NULL,          -- when to go on
    reason        TEXT,                     -- what it waits for, or why it ended
    created_us    BIGINT NOT NULL,
    created_by    TEXT NOT NULL,
    created_via   TEXT NOT NULL,
    started_us    BIGINT,                   -- when the first state was sent
    filled_us     BIGINT,                   -- when the last one was
    ended_us      BIGINT,
    ended_by      TEXT                      -- who cancelled it
);
CREATE UNIQUE INDEX bootstrap_open ON bootstrap (consumer) WHERE ended_us IS NULL;
CREATE INDEX bootstrap_copy ON bootstrap (consumer, copy_id, seq);
CREATE INDEX bootstrap_ended ON bootstrap (ended_us) WHERE ended_us IS NOT NULL;

-- A copy in the engine's own table that is emptied, by whatever means, is another one, which is not complete.
CREATE FUNCTION copied_state_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM copied_state) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER copied_state_deleted AFTER DELETE ON copied_state
    FOR EACH STATEMENT EXECUTE FUNCTION copied_state_emptied();
CREATE TRIGGER copied_state_truncated AFTER TRUNCATE ON copied_state
    FOR EACH STATEMENT EXECUTE FUNCTION copied_state_emptied();
