-- What a preview showed is what its job acts on: the events are listed when they are counted.
CREATE TABLE bulk_preview (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    selection   TEXT NOT NULL,               -- JSON, as in bulk_job
    matches     BIGINT NOT NULL,             -- how many events it listed
    created_us  BIGINT NOT NULL
);
CREATE TABLE bulk_preview_event (
    preview   BIGINT NOT NULL,
    event_id  UUID NOT NULL,
    PRIMARY KEY (preview, event_id)
);

-- NULL: the selection names its events itself, or the job is from before previews were kept.
ALTER TABLE bulk_job ADD COLUMN preview BIGINT;
