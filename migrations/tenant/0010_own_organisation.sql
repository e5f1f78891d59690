-- The UID of an occurrence's job can be guessed, and all tenants of a shared database
-- share its ledger. So each function of the ledger answers for the organisation of its
-- session (headgate.org) and for no other, however a statement names the function. A
-- job's context is set by the functions that open it; they refuse to change it. What is
-- asked outside a job (probe, tombstone, and the end of a kind without a transaction)
-- sets the context in the same statement.
--
-- The comparison is written out, because a call costs more than the comparison.

CREATE FUNCTION headgate.refuse_organisation(p_org bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'this session acts for %, and the ledger was asked for organisation %',
        coalesce('organisation ' || nullif(current_setting('headgate.org', true), ''), 'no organisation'), p_org
        USING ERRCODE = '42501', HINT = 'Only Headgate''s workers ask the ledger.';
END $$;

CREATE OR REPLACE FUNCTION headgate.begin_job(
    p_org bigint, p_uid uuid, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF nullif(current_setting('headgate.org', true), '') <> p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
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

-- peek_job and claim_job begin with it.
CREATE OR REPLACE FUNCTION headgate.enter_job(
    p_org bigint, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE fenced bigint;
BEGIN
    IF nullif(current_setting('headgate.org', true), '') <> p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    PERFORM set_config('headgate.org', p_org::text, true),
            set_config('application_name', p_app, true),
            set_config('statement_timeout', p_statement_timeout_ms::text, true),
            set_config('lock_timeout', p_lock_timeout_ms::text, true),
            set_config('idle_in_transaction_session_timeout', p_idle_timeout_ms::text, true);
    SELECT f.generation INTO fenced FROM headgate.fence f WHERE f.org_id = p_org;
    IF fenced > p_generation THEN
        RAISE EXCEPTION 'organisation % has moved to another database (generation %, this job began under %)',
            p_org, fenced, p_generation USING ERRCODE = '55000';
    END IF;
END $$;

-- As before; an organisation that is refused leaves no lock behind.
CREATE OR REPLACE FUNCTION headgate.claim_job(
    p_org bigint, p_uid uuid, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF nullif(current_setting('headgate.org', true), '') <> p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    IF NOT pg_try_advisory_lock(hashtextextended(p_uid::text, p_org)) THEN
        state := 'busy';
        RETURN;
    END IF;
    PERFORM headgate.enter_job(p_org, p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
    PERFORM set_config(name, current_setting(name), false)
        FROM unnest(ARRAY['headgate.org', 'application_name', 'statement_timeout', 'lock_timeout',
                          'idle_in_transaction_session_timeout']) AS name;
    IF current_setting('server_version_num')::int >= 140000 THEN
        PERFORM set_config('idle_session_timeout', p_idle_timeout_ms::text, false);
    END IF;
    INSERT INTO headgate.ledger (org_id, job_uid, two_phase) VALUES (p_org, p_uid, true)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'begun';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = '';
END $$;

CREATE OR REPLACE FUNCTION headgate.end_job(p_org bigint, p_uid uuid, p_step text, p_result jsonb, p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_now[1] <> p_before[1] OR p_before[2] <> '' AND p_now[2] <> p_before[2] OR p_now[3:] <> p_before[3:] THEN
        PERFORM headgate.refuse_escape(p_before, p_now);
    END IF;
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
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

CREATE OR REPLACE FUNCTION headgate.finish_job(p_org bigint, p_uid uuid, p_step text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE ours boolean;
BEGIN
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = p_org AND job_uid = p_uid AND step = p_step AND state = 'claimed';
    ours := FOUND;
    PERFORM headgate.forget_old(p_uid);
    RETURN ours;
END $$;

-- end_late ends with it.
CREATE OR REPLACE FUNCTION headgate.finish_late(p_org bigint, p_uid uuid, p_step text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE ours boolean;
BEGIN
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    INSERT INTO headgate.ledger (org_id, job_uid, step, state, result, done_at)
        VALUES (p_org, p_uid, p_step, 'done', p_result, clock_timestamp())
        ON CONFLICT DO NOTHING;
    ours := FOUND;
    PERFORM headgate.forget_old(p_uid);
    RETURN ours;
END $$;

CREATE OR REPLACE FUNCTION headgate.release_job(p_org bigint, p_uid uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    DELETE FROM headgate.ledger WHERE org_id = p_org AND job_uid = p_uid AND step = '' AND two_phase AND state = 'claimed';
END $$;

CREATE OR REPLACE FUNCTION headgate.probe(
    p_org bigint, p_uid uuid, p_step text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    PERFORM set_config('lock_timeout', p_lock_timeout_ms::text, true);
    INSERT INTO headgate.ledger (org_id, job_uid, step) VALUES (p_org, p_uid, p_step)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'absent';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
END $$;

CREATE OR REPLACE FUNCTION headgate.tombstone(
    p_org bigint, p_uid uuid, p_step text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('headgate.org', true) IS DISTINCT FROM p_org::text THEN
        PERFORM headgate.refuse_organisation(p_org);
    END IF;
    PERFORM set_config('lock_timeout', p_lock_timeout_ms::text, true);
    IF NOT pg_try_advisory_xact_lock(hashtextextended(p_uid::text, p_org)) THEN
        RAISE EXCEPTION 'an attempt at job % is still at work', p_uid USING ERRCODE = '55P03';
    END IF;
    INSERT INTO headgate.ledger (org_id, job_uid, step, state, done_at) VALUES (p_org, p_uid, p_step, 'tombstone', clock_timestamp())
        ON CONFLICT DO NOTHING;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
    UPDATE headgate.ledger l SET state = 'tombstone', done_at = clock_timestamp()
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step AND l.state = 'claimed';
END $$;

REVOKE ALL ON FUNCTION headgate.refuse_organisation(bigint) FROM PUBLIC;
