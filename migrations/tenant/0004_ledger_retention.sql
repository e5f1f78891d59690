-- The ledger forgets after 30 days (jobs.LedgerRetention), and it is the
-- tenant's own jobs that make it forget: one of 64 deletes up to 256 old rows
-- as it ends, four times what comes in. Nothing visits a database that is idle.

CREATE INDEX ledger_age ON headgate.ledger (begun_at);

CREATE FUNCTION headgate.forget_old(p_uid uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF get_byte(uuid_send(p_uid), 15) % 64 = 0 THEN
        DELETE FROM headgate.ledger WHERE ctid = ANY (ARRAY(
            SELECT l.ctid FROM headgate.ledger l
            WHERE l.begun_at < now() - interval '30 days' AND l.state <> 'claimed'
            ORDER BY l.begun_at LIMIT 256 FOR UPDATE SKIP LOCKED));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION headgate.finish_job(p_org bigint, p_uid uuid, p_step text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE ours boolean;
BEGIN
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = p_org AND job_uid = p_uid AND step = p_step AND state = 'claimed';
    ours := FOUND;
    PERFORM headgate.forget_old(p_uid);
    RETURN ours;
END $$;

REVOKE ALL ON FUNCTION headgate.forget_old(uuid) FROM PUBLIC;
