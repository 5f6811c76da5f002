-- Whether an instance reads the log when it is its turn, and stands by until then.
ALTER TABLE relay_member ADD COLUMN stands_by BOOLEAN NOT NULL DEFAULT FALSE;
