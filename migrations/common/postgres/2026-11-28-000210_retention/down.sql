DROP INDEX dead_letter_handled;
DROP INDEX outbox_open_resolved;
DROP TABLE forgotten;
