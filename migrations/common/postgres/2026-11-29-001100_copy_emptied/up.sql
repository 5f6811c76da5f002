-- Who deletes all keys with one statement has emptied the copy, though a new one may arrive meanwhile: so it is a copy of
-- which a statement takes away more than it leaves. What retention forgets are tombstones only.
CREATE OR REPLACE FUNCTION copied_state_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken BIGINT;
BEGIN
    SELECT count(*) INTO taken FROM gone WHERE NOT removed;
    IF (taken > 0 AND taken > (SELECT count(*) FROM (SELECT 1 FROM copied_state LIMIT taken) AS rest))
       OR NOT EXISTS (SELECT 1 FROM copied_state) THEN
        UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION copied_state_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE copy_state SET copy_id = gen_random_uuid()::text, complete_us = NULL, complete_by = NULL;
    RETURN NULL;
END
$$;
DROP TRIGGER copied_state_deleted ON copied_state;
DROP TRIGGER copied_state_truncated ON copied_state;
CREATE TRIGGER copied_state_deleted AFTER DELETE ON copied_state REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION copied_state_emptied();
CREATE TRIGGER copied_state_truncated AFTER TRUNCATE ON copied_state FOR EACH STATEMENT EXECUTE FUNCTION copied_state_truncated();
