-- How far a service has deleted what later decisions depend on, such as the moment before which orders may be gone.
CREATE TABLE forgotten (
    what   TEXT PRIMARY KEY,
    up_to  BIGINT NOT NULL
);
-- By age, for what goes when it is old.
CREATE INDEX outbox_open_resolved ON outbox_open (resolved_us) WHERE resolved_us IS NOT NULL;
CREATE INDEX dead_letter_handled ON dead_letter (handled_us) WHERE handled_us IS NOT NULL;
