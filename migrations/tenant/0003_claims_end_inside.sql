-- A claim and its end belong to one transaction, unless the kind says that it
-- cannot work in one. The trigger makes Postgres itself refuse a COMMIT that a
-- job's own SQL slips in: nothing of the job is committed. It costs one look at
-- the row, at commit.
--
-- Kinds that work outside a transaction claim first and finish later, in two
-- transactions, under a session lock on the job's uid: see claim_job.

ALTER TABLE headgate.ledger ADD COLUMN two_phase boolean NOT NULL DEFAULT false;

CREATE FUNCTION headgate.refuse_open_claim() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM headgate.ledger l
               WHERE l.org_id = NEW.org_id AND l.job_uid = NEW.job_uid AND l.step = NEW.step AND l.state = 'claimed') THEN
        RAISE EXCEPTION 'transaction control is not allowed in a job: Headgate commits it when the handler returns'
            USING ERRCODE = '2D000', HINT = 'SET CONSTRAINTS ALL IMMEDIATE is refused too: name the constraints.';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER claims_end_inside AFTER INSERT ON headgate.ledger
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state = 'claimed' AND NOT NEW.two_phase) EXECUTE FUNCTION headgate.refuse_open_claim();

-- Opens a job that works outside a transaction, in one round trip of its own:
-- the session lock on its uid, the session's context and limits, the fence, the
-- claim. Returns 'begun'; 'busy' if another session holds the lock; else the
-- state it found: 'claimed' is an earlier attempt that began and never told
-- of its end. All that is set goes when the connection is reset or closed.
CREATE FUNCTION headgate.claim_job(
    p_org bigint, p_uid uuid, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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

-- Takes a two-phase claim back: its holder knows that nothing was done.
CREATE FUNCTION headgate.release_job(p_org bigint, p_uid uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM headgate.ledger WHERE org_id = p_org AND job_uid = p_uid AND step = '' AND two_phase AND state = 'claimed'
$$;

-- As before, and for a two-phase claim too: while its session lives the answer
-- is 55P03; of one that is over, 'claimed' says that it may have had a part of
-- its effect, and from now on it can have no more under this uid.
CREATE OR REPLACE FUNCTION headgate.tombstone(
    p_org bigint, p_uid uuid, p_step text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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

REVOKE ALL ON FUNCTION headgate.refuse_open_claim(), headgate.release_job(bigint, uuid),
    headgate.claim_job(bigint, uuid, bigint, text, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.release_job(bigint, uuid),
    headgate.claim_job(bigint, uuid, bigint, text, bigint, bigint, bigint) TO headgate_job;
