DROP INDEX outbox_event_version;
