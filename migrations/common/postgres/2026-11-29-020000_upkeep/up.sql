-- How PostgreSQL keeps the tables that grow or are rewritten. Why which of them, and why no others: decision 0035.

-- What is old goes from these, and retention walks over what it deleted until that is vacuumed. By default, that is once a
-- fifth of a table has gone: six days' rows of thirty. Less than a fiftieth would leave the indexes out.
ALTER TABLE outbox_settled SET (autovacuum_vacuum_scale_factor = 0.03);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0.03);
ALTER TABLE idempotency SET (autovacuum_vacuum_scale_factor = 0.03);
-- The largest of all: its space is used again as soon.
ALTER TABLE outbox_event SET (autovacuum_vacuum_scale_factor = 0.03);

-- Rewritten row by row, by nothing that is in an index: with room in its page, a new state touches none (HOT).
ALTER TABLE copied_state SET (fillfactor = 90);
