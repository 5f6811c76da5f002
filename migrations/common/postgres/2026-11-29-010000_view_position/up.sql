-- How far a copy of a view has taken each partition of its topic, written with the rows that it made of that.
CREATE TABLE view_position (
    topic        TEXT NOT NULL,
    partition    INTEGER NOT NULL,
    begun_us     BIGINT NOT NULL,            -- when it was begun to be read; later again if the topic was made anew
    next_offset  BIGINT NOT NULL,
    written_us   BIGINT,                     -- when the newest message that was taken was written
    taken_us     BIGINT,                     -- when that was taken
    end_offset   BIGINT,                     -- where the partition ended at the last look
    checked_us   BIGINT,                     -- when that was
    PRIMARY KEY (topic, partition)
);
