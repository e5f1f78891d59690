-- The history must not be more durable than the effect that it tells of: with
-- synchronous_commit = off a crash of the server takes back what was committed in
-- the last moments, and the ledger's row with it, while the centre says succeeded.
--
-- Each end of a job writes the ledger in its last statement before COMMIT. So that
-- is where off becomes on, whoever had set it: the server, the database, the role,
-- or the handler itself. Other values (local, remote_write, remote_apply) stay. A
-- commit flushes all that was committed before it, so the writes of a kind without
-- a transaction are kept too. The condition is looked at without calling anything.

CREATE FUNCTION headgate.keep_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    RETURN NULL;
END $$;

CREATE TRIGGER commits_are_kept BEFORE INSERT OR UPDATE OR DELETE ON headgate.ledger
    FOR EACH STATEMENT WHEN (current_setting('synchronous_commit') = 'off') EXECUTE FUNCTION headgate.keep_commit();

REVOKE ALL ON FUNCTION headgate.keep_commit() FROM PUBLIC;
