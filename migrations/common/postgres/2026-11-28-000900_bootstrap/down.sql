DROP TRIGGER copied_state_truncated ON copied_state;
DROP TRIGGER copied_state_deleted ON copied_state;
DROP FUNCTION copied_state_emptied();
DROP TABLE bootstrap;
DROP TABLE copy_state;
