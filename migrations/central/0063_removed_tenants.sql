-- What refers to a tenant goes by a decision, never along with its row: nobody deletes a
-- tenant by mistake whose domains, schedules or limits are there. A row that is deleted would
-- free its org_id, so tenants are removed by a state, here.
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT conrelid::regclass AS tab, conname, pg_get_constraintdef(oid) AS def
        FROM pg_constraint
        WHERE contype = 'f' AND confrelid = 'headgate.tenants'::regclass AND confdeltype = 'c'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', c.tab, c.conname, c.conname, replace(c.def, ' ON DELETE CASCADE', ''));
    END LOOP;
END $$;
