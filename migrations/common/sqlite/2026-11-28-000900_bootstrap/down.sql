DROP TRIGGER copied_state_deleted;
DROP TABLE bootstrap;
DROP TABLE copy_state;
