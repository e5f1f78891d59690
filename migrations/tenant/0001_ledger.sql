-- Headgate's footprint in a tenant database. Installed with the owner's login;
-- the job login may execute the functions below and read no table.

CREATE TABLE headgate.identity (
    only_one      boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    database_id   uuid NOT NULL,          -- the catalog's id of this database
    installed_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE headgate.fence (
    org_id     bigint PRIMARY KEY,
    generation bigint NOT NULL
);

CREATE TABLE headgate.ledger (
    org_id    bigint NOT NULL,
    job_uid   uuid NOT NULL,
    step      text NOT NULL DEFAULT '',
    state     text NOT NULL DEFAULT 'claimed' CHECK (state IN ('claimed', 'done', 'tombstone')),
    result    jsonb,
    begun_at  timestamptz NOT NULL DEFAULT now(),
    done_at   timestamptz,
    PRIMARY KEY (org_id, job_uid, step)
);

-- Says whose database this is; the worker compares it on every new connection.
CREATE FUNCTION headgate.whoami(OUT database_id uuid, OUT version int, OUT serves int)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.database_id, m.version, m.serves
    FROM headgate.identity i, (SELECT max(version) AS version, max(serves) AS serves FROM headgate.migrations) m
$$;

-- The organisation that the present transaction acts for. For the job role a
-- missing context is an error: a job that forgot it must not see zero rows and
-- believe them. After a commit a local setting reads '' and not NULL.
CREATE FUNCTION headgate.current_org() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE org text := nullif(current_setting('headgate.org', true), '');
BEGIN
    IF org IS NULL THEN
        RAISE EXCEPTION 'no organisation is set in this transaction'
            USING ERRCODE = '28000', HINT = 'Headgate sets it when a job begins.';
    END IF;
    RETURN org::bigint;
END $$;

-- Opens a job inside the caller's transaction, in one round trip: sets the
-- organisation and the limits for this transaction, refuses a tenant that has
-- moved on, and writes the ledger row.
--
-- The insert is the mutual exclusion: while another attempt's transaction with
-- the same key is open it waits (lock_timeout bounds it, 55P03). Returns
-- 'begun', or the state it found with the stored result.
CREATE FUNCTION headgate.begin_job(
    p_org bigint, p_uid uuid, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.enter_job(p_org, p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
    INSERT INTO headgate.ledger (org_id, job_uid, step) VALUES (p_org, p_uid, p_step)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'begun';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = p_org AND l.job_uid = p_uid AND l.step = p_step;
END $$;

-- The part of begin_job that read-only jobs share: context, limits, fence.
CREATE FUNCTION headgate.enter_job(
    p_org bigint, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE fenced bigint;
BEGIN
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

-- Marks the job done. Call it last, in the same transaction; false means that
-- there was no claimed row, so that the caller must not commit.
CREATE FUNCTION headgate.finish_job(p_org bigint, p_uid uuid, p_step text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = p_org AND job_uid = p_uid AND step = p_step AND state = 'claimed';
    RETURN FOUND;
END $$;

-- Answers what became of a job whose COMMIT was never answered: 'done',
-- 'tombstone', or 'absent'. A plain SELECT would not see a commit that is still
-- under way; the insert waits for it (55P03 = still unknown). The caller rolls
-- back, always.
CREATE FUNCTION headgate.probe(
    p_org bigint, p_uid uuid, p_step text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA headgate FROM PUBLIC;
GRANT USAGE ON SCHEMA headgate TO headgate_job;
GRANT EXECUTE ON FUNCTION
    headgate.whoami(), headgate.current_org(),
    headgate.begin_job(bigint, uuid, text, bigint, text, bigint, bigint, bigint),
    headgate.enter_job(bigint, bigint, text, bigint, bigint, bigint),
    headgate.finish_job(bigint, uuid, text, jsonb),
    headgate.probe(bigint, uuid, text, bigint)
TO headgate_job;
