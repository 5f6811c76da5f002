ALTER TABLE copied_state RESET (fillfactor);
ALTER TABLE outbox_event RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE idempotency RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE inbox RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE outbox_settled RESET (autovacuum_vacuum_scale_factor);
