DROP TABLE bootstrap;
DROP TABLE copy_state;
