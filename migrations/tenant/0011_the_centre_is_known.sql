-- The identity row says which central database works this one: see headgate.centre there.
-- Workers read it with the rest of the row, on each new connection and, on those that are
-- kept, once a minute. NULL: nobody has worked here yet, and the first is the centre.

ALTER TABLE headgate.identity
    ADD COLUMN centre text,               -- the centre's mark
    ADD COLUMN token  text;               -- the token that it left last

-- Leaves a mark and a token, unless what stands there is not what was found any more, or
-- somebody has locked the row: then the mark is left later, and the work goes on. A worker
-- calls it between jobs; a job has no use for it.
CREATE FUNCTION headgate.leave_centre(p_found_centre text, p_found_token text, p_centre text, p_token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
BEGIN
    IF coalesce(current_setting('headgate.org', true), '') <> '' THEN
        RAISE EXCEPTION 'a job does not say which central database it belongs to'
            USING ERRCODE = '42501', HINT = 'Only Headgate''s workers do, between jobs.';
    END IF;
    -- A mark that a crash loses is left again. Nobody waits for a standby because of it.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE headgate.identity SET centre = p_centre, token = p_token
        WHERE centre IS NOT DISTINCT FROM p_found_centre AND token IS NOT DISTINCT FROM p_found_token;
    RETURN FOUND;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

REVOKE ALL ON FUNCTION headgate.leave_centre(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.leave_centre(text, text, text, text) TO headgate_job;
GRANT SELECT (centre, token) ON headgate.identity TO headgate_job;
