-- The optimistic form, for long jobs that mostly read: nothing is written, and
-- no lock is held, until the end. Two attempts may work at once; the first to
-- commit wins, and the other finds its row and rolls back.

CREATE FUNCTION headgate.peek_job(
    p_org bigint, p_uid uuid, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.enter_job(p_org, p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
    state := coalesce(state, 'begun');
END $$;

-- Writes the row, done at once. false: another attempt's stands there, so that
-- the caller must roll back. It waits for one that is not committed yet (55P03).
CREATE FUNCTION headgate.finish_late(p_org bigint, p_uid uuid, p_step text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE ours boolean;
BEGIN
    INSERT INTO headgate.ledger (org_id, job_uid, step, state, result, done_at)
        VALUES (p_org, p_uid, p_step, 'done', p_result, clock_timestamp())
        ON CONFLICT DO NOTHING;
    ours := FOUND;
    PERFORM headgate.forget_old(p_uid);
    RETURN ours;
END $$;

REVOKE ALL ON FUNCTION headgate.finish_late(bigint, uuid, text, jsonb),
    headgate.peek_job(bigint, uuid, text, bigint, text, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.finish_late(bigint, uuid, text, jsonb),
    headgate.peek_job(bigint, uuid, text, bigint, text, bigint, bigint, bigint) TO headgate_job;
