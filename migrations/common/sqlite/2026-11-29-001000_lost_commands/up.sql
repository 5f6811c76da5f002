-- When the service that sends commands is to be told next that this database came back from a backup; none: it is told,
-- or there is nobody to tell.
ALTER TABLE restoration ADD COLUMN tell_us BIGINT;
-- Why it is not told yet.
ALTER TABLE restoration ADD COLUMN untold TEXT;

-- Which of this service's commands have lost their effect, looked for because their receiver came back from a backup.
CREATE TABLE lost_check (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    service        TEXT NOT NULL,             -- whose database came back
    restoration    TEXT NOT NULL,             -- which restoration, as that service names it
    since_us       BIGINT,                    -- what came before is in its database
    until          TEXT NOT NULL,            -- commands from here on are not looked at
    cursor         TEXT,                     -- commands up to here are looked at in this pass
    open_from      TEXT,                     -- the first one that was open when the pass began
    asked          BIGINT NOT NULL DEFAULT 0, -- commands that the receiver was asked about
    found          BIGINT NOT NULL DEFAULT 0, -- that it does not know
    unclear        BIGINT NOT NULL DEFAULT 0, -- that it may have forgotten
    known_from_us  BIGINT,                    -- what was made before is not known
    waits_for      TEXT,                      -- why it does not get on
    due_us         BIGINT NOT NULL,           -- when to go on
    created_us     BIGINT NOT NULL,
    ended_us       BIGINT,
    UNIQUE (service, restoration)
);
CREATE INDEX lost_check_due ON lost_check (due_us) WHERE ended_us IS NULL;

-- Commands that were answered SUCCESS and whose effect was lost with their receiver's database.
CREATE TABLE lost_command (
    event_id     TEXT PRIMARY KEY,
    found_by     BIGINT NOT NULL,             -- the check
    event_type   TEXT NOT NULL,
    key          TEXT NOT NULL,
    payload      TEXT NOT NULL,
    state        SMALLINT NOT NULL,           -- 0 open, 1 again, 2 accepted, 3 obsolete
    settled_us   BIGINT NOT NULL,             -- when it was answered
    found_us     BIGINT NOT NULL,
    closed_us    BIGINT,
    closed_by    TEXT,
    reason       TEXT,
    sent_as      TEXT                        -- the event by which it was sent again
);
CREATE INDEX lost_command_open ON lost_command (event_id) WHERE state = 0;
CREATE INDEX lost_command_key ON lost_command (key);
CREATE INDEX lost_command_closed ON lost_command (closed_us) WHERE closed_us IS NOT NULL;
