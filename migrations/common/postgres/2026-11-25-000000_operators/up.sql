-- What operators need: who they are, what they did, and what they told the loop to do.

-- People who may look and act. Roles: 0 viewer, 1 operator, 2 admin.
CREATE TABLE operator (
    name           TEXT PRIMARY KEY,
    password_hash  TEXT NOT NULL,            -- argon2id, as a PHC string
    role           SMALLINT NOT NULL CHECK (role BETWEEN 0 AND 2),
    created_us     BIGINT NOT NULL,
    created_by     TEXT NOT NULL,
    disabled_us    BIGINT
);

-- Browsers that are signed in; of the cookie only a hash is kept.
CREATE TABLE operator_session (
    hash        TEXT PRIMARY KEY,            -- SHA-256, in hexadecimal
    operator    TEXT NOT NULL REFERENCES operator (name) ON DELETE CASCADE,
    created_us  BIGINT NOT NULL,
    seen_us     BIGINT NOT NULL
);
CREATE INDEX operator_session_operator ON operator_session (operator);
CREATE INDEX operator_session_age ON operator_session (created_us);

-- Bearer tokens for scripts; of each only a hash is kept.
CREATE TABLE operator_token (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash        TEXT NOT NULL UNIQUE,        -- SHA-256, in hexadecimal
    name        TEXT NOT NULL,               -- what it is for
    role        SMALLINT NOT NULL CHECK (role BETWEEN 0 AND 2),
    areas       TEXT NOT NULL,               -- where it may go, separated by commas; empty: everywhere
    created_us  BIGINT NOT NULL,
    created_by  TEXT NOT NULL,
    expires_us  BIGINT,
    used_us     BIGINT,                      -- to the minute
    revoked_us  BIGINT,
    revoked_by  TEXT
);

-- One-time tokens that make the first admin; gone once there is one.
CREATE TABLE operator_setup (
    hash        TEXT PRIMARY KEY,
    created_us  BIGINT NOT NULL
);

-- Sign-ins that failed, by name and by address, within the present window.
CREATE TABLE login_failure (
    subject   TEXT PRIMARY KEY,
    failures  INTEGER NOT NULL,
    since_us  BIGINT NOT NULL
);

-- Who did what, appended in the transaction of the deed.
CREATE TABLE audit (
    seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us    BIGINT NOT NULL,
    who      TEXT NOT NULL,
    via      TEXT NOT NULL,                  -- session, token, setting, open, setup or command
    action   TEXT NOT NULL,                  -- such as event.retry
    subject  TEXT,                           -- what it was done to: an event's id, a key, a name
    detail   TEXT                            -- JSON
);
CREATE INDEX audit_who ON audit (who, seq);
CREATE INDEX audit_action ON audit (action, seq);
CREATE INDEX audit_subject ON audit (subject, seq);

-- Actions on many events, worked off step by step; any instance goes on where one stopped.
CREATE TABLE bulk_job (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action       TEXT NOT NULL,              -- retry or resolve
    selection    TEXT NOT NULL,              -- JSON: the filter, or the ids
    reason       TEXT,
    attempts     INTEGER,
    state        SMALLINT NOT NULL,          -- 0 waiting, 1 running, 2 done, 3 cancelled
    expected     BIGINT NOT NULL,            -- how many it was said to touch
    done         BIGINT NOT NULL DEFAULT 0,
    skipped      BIGINT NOT NULL DEFAULT 0,
    cursor       TEXT,                       -- the id that the walk has got to
    created_us   BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    created_via  TEXT NOT NULL,
    started_us   BIGINT,
    ended_us     BIGINT,
    ended_by     TEXT                        -- who cancelled it
);
CREATE INDEX bulk_job_open ON bulk_job (seq) WHERE state < 2;

-- What a job did to each event, and why not where it did nothing.
CREATE TABLE bulk_item (
    job       BIGINT NOT NULL REFERENCES bulk_job (seq) ON DELETE CASCADE,
    event_id  UUID NOT NULL,
    skipped   TEXT,                          -- why; NULL: done
    PRIMARY KEY (job, event_id)
);

-- What the relay leaves alone: a key, or with the empty key everything.
CREATE TABLE relay_pause (
    key       TEXT PRIMARY KEY,
    reason    TEXT NOT NULL,
    since_us  BIGINT NOT NULL,
    by_whom   TEXT NOT NULL
);

-- Alerts that nobody wants a message of for a while; what is NULL fits all.
CREATE TABLE alert_silence (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT,
    key         TEXT,
    alert_seq   BIGINT,
    reason      TEXT NOT NULL,
    created_us  BIGINT NOT NULL,
    until_us    BIGINT NOT NULL,
    by_whom     TEXT NOT NULL,
    ended_us    BIGINT,                      -- when a person ended it before its time
    ended_by    TEXT
);
CREATE INDEX alert_silence_until ON alert_silence (until_us);

-- Calls to the webhook, fixed before their first try, as mails are.
CREATE TABLE webhook (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id  TEXT NOT NULL UNIQUE,
    body         TEXT NOT NULL,
    created_us   BIGINT NOT NULL,
    tries        INTEGER NOT NULL DEFAULT 0,
    due_us       BIGINT NOT NULL,
    sent_us      BIGINT,
    last_error   TEXT
);
CREATE INDEX webhook_unsent ON webhook (due_us) WHERE sent_us IS NULL;

ALTER TABLE alert ADD COLUMN acknowledged_us BIGINT;
ALTER TABLE alert ADD COLUMN acknowledged_by TEXT;
ALTER TABLE alert ADD COLUMN webhook_seq BIGINT;
CREATE INDEX alert_uncalled ON alert (seq) WHERE closed_us IS NULL AND webhook_seq IS NULL;
CREATE INDEX alert_mail ON alert (mail_seq) WHERE mail_seq IS NOT NULL;
CREATE INDEX alert_webhook ON alert (webhook_seq) WHERE webhook_seq IS NOT NULL;
-- By age, for what goes when it is old.
CREATE INDEX alert_closed ON alert (closed_us) WHERE closed_us IS NOT NULL;
CREATE INDEX mail_sent ON mail (sent_us) WHERE sent_us IS NOT NULL;
CREATE INDEX webhook_sent ON webhook (sent_us) WHERE sent_us IS NOT NULL;

-- The kind of an error: its text without what differs from event to event.
ALTER TABLE outbox_history ADD COLUMN class TEXT;

-- What a dead letter needs to be sent again, and what became of it.
ALTER TABLE dead_letter ADD COLUMN message_key BYTEA;
ALTER TABLE dead_letter ADD COLUMN headers TEXT;                          -- JSON: pairs of name and value in hexadecimal
ALTER TABLE dead_letter ADD COLUMN state SMALLINT NOT NULL DEFAULT 0;     -- 0 waiting, 1 replayed, 2 discarded
ALTER TABLE dead_letter ADD COLUMN handled_us BIGINT;
ALTER TABLE dead_letter ADD COLUMN handled_by TEXT;
ALTER TABLE dead_letter ADD COLUMN reason TEXT;
CREATE INDEX dead_letter_waiting ON dead_letter (seq) WHERE state = 0;

-- The loop's course over time, a row each few seconds by whichever instance watches. Counts grow over the
-- database's life; latencies are of the newest acknowledged events at that moment, in microseconds.
CREATE TABLE trend (
    at_us        BIGINT PRIMARY KEY,
    committed    BIGINT NOT NULL,
    sent         BIGINT NOT NULL,
    processed    BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    waiting      BIGINT NOT NULL,            -- PENDING and SENT now
    exhausted    BIGINT NOT NULL,            -- and not resolved, now
    oldest_us    BIGINT NOT NULL,            -- age of the oldest that waits
    sent_p50     BIGINT,
    sent_p99     BIGINT,
    applied_p50  BIGINT,
    applied_p99  BIGINT,
    acked_p50    BIGINT,
    acked_p99    BIGINT
);
