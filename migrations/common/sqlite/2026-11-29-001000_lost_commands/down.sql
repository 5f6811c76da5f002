DROP TABLE lost_command;
DROP TABLE lost_check;
ALTER TABLE restoration DROP COLUMN untold;
ALTER TABLE restoration DROP COLUMN tell_us;
