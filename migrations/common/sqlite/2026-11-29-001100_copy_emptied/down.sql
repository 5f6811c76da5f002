-- Nobody else writes while a statement empties the copy: the trigger that is there sees all of it.
SELECT 1;
