-- The same work in fewer round trips: what is compared at a job's end is compared
-- here, so that COMMIT can be sent along. A mismatch raises, and the COMMIT behind
-- it in the pipeline is skipped.
--
--   HG001  the context is not the one that the job began in; DETAIL is what it is now
--   HG002  the job's ledger row is gone from its own transaction
--   HG003  another attempt of an optimistic job has committed

CREATE FUNCTION headgate.refuse_escape(p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The second is the transaction's number, '' while it has none.
    IF p_now[1] <> p_before[1] OR p_before[2] <> '' AND p_now[2] <> p_before[2] OR p_now[3:] <> p_before[3:] THEN
        RAISE EXCEPTION 'the job left its transaction or its context' USING ERRCODE = 'HG001', DETAIL = to_json(p_now)::text;
    END IF;
END $$;

CREATE FUNCTION headgate.end_job(p_org bigint, p_uid uuid, p_step text, p_result jsonb, p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_now[1] <> p_before[1] OR p_before[2] <> '' AND p_now[2] <> p_before[2] OR p_now[3:] <> p_before[3:] THEN
        PERFORM headgate.refuse_escape(p_before, p_now);
    END IF;
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = p_org AND job_uid = p_uid AND step = p_step AND state = 'claimed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job''s ledger row is gone from its own transaction' USING ERRCODE = 'HG002';
    END IF;
    IF get_byte(uuid_send(p_uid), 15) % 64 = 0 THEN
        PERFORM headgate.forget_old(p_uid);
    END IF;
END $$;

CREATE FUNCTION headgate.end_late(p_org bigint, p_uid uuid, p_step text, p_result jsonb, p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.refuse_escape(p_before, p_now);
    IF NOT headgate.finish_late(p_org, p_uid, p_step, p_result) THEN
        RAISE EXCEPTION 'another attempt has done the work' USING ERRCODE = 'HG003';
    END IF;
END $$;

-- As before, with enter_job written out: a call of a function that has settings
-- of its own costs more than what this one does.
CREATE OR REPLACE FUNCTION headgate.begin_job(
    p_org bigint, p_uid uuid, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('headgate.org', p_org::text, true),
            set_config('application_name', p_app, true),
            set_config('statement_timeout', p_statement_timeout_ms::text, true),
            set_config('lock_timeout', p_lock_timeout_ms::text, true),
            set_config('idle_in_transaction_session_timeout', p_idle_timeout_ms::text, true);
    IF EXISTS (SELECT FROM headgate.fence f WHERE f.org_id = p_org AND f.generation > p_generation) THEN
        PERFORM headgate.enter_job(p_org, p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
    END IF;
    INSERT INTO headgate.ledger (org_id, job_uid, step) VALUES (p_org, p_uid, p_step)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'begun';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
END $$;

REVOKE ALL ON FUNCTION headgate.refuse_escape(text[], text[]),
    headgate.end_job(bigint, uuid, text, jsonb, text[], text[]),
    headgate.end_late(bigint, uuid, text, jsonb, text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.end_job(bigint, uuid, text, jsonb, text[], text[]),
    headgate.end_late(bigint, uuid, text, jsonb, text[], text[]) TO headgate_job;
