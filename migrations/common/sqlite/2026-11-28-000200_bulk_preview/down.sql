ALTER TABLE bulk_job DROP COLUMN preview;
DROP TABLE bulk_preview_event;
DROP TABLE bulk_preview;
