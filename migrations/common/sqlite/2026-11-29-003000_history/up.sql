-- The states of a key by their versions, for its history: a page of it is a walk, and the first event of a version is
-- found at once however often that was sent again. Commands have no versions and are not in it.
CREATE INDEX IF NOT EXISTS outbox_event_version ON outbox_event (key, version, id) WHERE kind = 0;
