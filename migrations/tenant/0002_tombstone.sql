-- Settles a job that was cancelled while its worker could not be reached: from
-- now on it can never have its effect, or the answer is 'done' because it has.
-- It waits for an attempt whose transaction is still open (55P03 = not settled
-- yet); one that wakes later finds the tombstone on its key and rolls back.
CREATE FUNCTION headgate.tombstone(
    p_org bigint, p_uid uuid, p_step text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', p_lock_timeout_ms::text, true);
    INSERT INTO headgate.ledger (org_id, job_uid, step, state, done_at) VALUES (p_org, p_uid, p_step, 'tombstone', clock_timestamp())
        ON CONFLICT DO NOTHING;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
END $$;

REVOKE ALL ON FUNCTION headgate.tombstone(bigint, uuid, text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.tombstone(bigint, uuid, text, bigint) TO headgate_job;
