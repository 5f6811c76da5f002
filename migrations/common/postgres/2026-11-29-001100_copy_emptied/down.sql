DROP TRIGGER copied_state_deleted ON copied_state;
DROP TRIGGER copied_state_truncated ON copied_state;
DROP FUNCTION copied_state_truncated();
CREATE OR REPLACE FUNCTION copied_state_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM copied_state) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER copied_state_deleted AFTER DELETE ON copied_state FOR EACH STATEMENT EXECUTE FUNCTION copied_state_emptied();
CREATE TRIGGER copied_state_truncated AFTER TRUNCATE ON copied_state FOR EACH STATEMENT EXECUTE FUNCTION copied_state_emptied();
