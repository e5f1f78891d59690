-- The organisation of a transaction is signed, because a setting alone can be set by any
-- SQL. The worker and this database share a key. The worker signs a ticket: organisation,
-- job, time, brand and the tenant's key in this database. begin_job and the other
-- functions that open a job verify the ticket. Then they set headgate.context, signed once
-- more, which holds for one transaction of one session. current_org() believes only that.
--
--   ticket    org|uid|seconds since 1970|brand|key                 HMAC-SHA256, from the worker
--   context   mac|scope|org|uid|brand|key                          HMAC-SHA256 over pid|moment|scope|...
--
-- scope t is a transaction, and the moment is its start. Scope s is the session of a kind
-- outside a transaction, and the moment is that of a statement that claim_job prepares.
-- Neither moment can come again or be set, so that a context which a job has read is worth
-- nothing in the next job, in another session or on a standby.
--
--   HG001  the context is not the one that the job began in; DETAIL is what it is now
--   HG002  the job's ledger row is gone from its own transaction
--   HG003  another attempt of an optimistic job has committed
--   HG004  the ticket is not signed with this database's key, or not of this time

-- The two halves of the key of an HMAC, XORed with its pads. Nobody but the owner reads it.
CREATE TABLE headgate.signing_key (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    inner_key bytea NOT NULL CHECK (length(inner_key) = 64),
    outer_key bytea NOT NULL CHECK (length(outer_key) = 64)
);

DROP FUNCTION headgate.begin_job, headgate.peek_job, headgate.enter_job, headgate.claim_job, headgate.end_job, headgate.end_late,
    headgate.finish_job, headgate.finish_late, headgate.release_job, headgate.probe, headgate.tombstone,
    headgate.refuse_organisation, headgate.refuse_escape, headgate.leave_centre;

-- The functions without SET are called by those below only, which have set the path. A
-- SET of their own would cost more than what they do.

-- HMAC-SHA256 by the two halves of a key, in hexadecimal digits. Postgres writes it into
-- the expressions that call it.
CREATE FUNCTION headgate.hmac(inner_key bytea, outer_key bytea, message text) RETURNS text
LANGUAGE sql STABLE AS $$ SELECT encode(sha256(outer_key || sha256(inner_key || convert_to(message, 'UTF8'))), 'hex') $$;

-- Refuses a ticket that this database's key has not signed, or at another time than the
-- last or the next five minutes. The worker signs by this server's clock.
CREATE FUNCTION headgate.refuse_ticket(p_ticket text, p_mac text, p_true text) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE seconds numeric;
BEGIN
    IF p_mac IS NULL OR p_mac IS DISTINCT FROM p_true THEN
        RAISE EXCEPTION 'the ticket is not signed with this database''s key'
            USING ERRCODE = 'HG004', HINT = 'Only Headgate''s workers open jobs.';
    END IF;
    seconds := extract(epoch FROM clock_timestamp()) - split_part(p_ticket, '|', 3)::bigint;
    IF abs(seconds) > 300 THEN
        RAISE EXCEPTION 'the ticket was signed at another time than this: % s from this server''s clock', round(seconds)
            USING ERRCODE = 'HG004';
    END IF;
END $$;

-- The parts of a ticket.
CREATE FUNCTION headgate.read_ticket(p_ticket text, p_mac text) RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
DECLARE inner_key bytea; outer_key bytea;
BEGIN
    SELECT k.inner_key, k.outer_key INTO inner_key, outer_key FROM headgate.signing_key k;
    PERFORM headgate.refuse_ticket(p_ticket, p_mac, headgate.hmac(inner_key, outer_key, 'ticket|' || p_ticket));
    RETURN string_to_array(p_ticket, '|');
END $$;

-- The moment of a session's scope.
CREATE FUNCTION headgate.session_moment() RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT encode(timestamptz_send(s.prepare_time), 'hex') FROM pg_prepared_statements s WHERE s.name = 'headgate_session');
END $$;

-- Opens what a ticket is for: sets the context and the limits, and minds the fence. For a
-- session all of it stays until the session is reset. Returns the parts of the ticket.
CREATE FUNCTION headgate.open(p_ticket text, p_mac text, p_scope text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    part      text[] := string_to_array(p_ticket, '|');
    body      text := concat_ws('|', p_scope, part[1], part[2], part[4], part[5]);
    inner_key bytea;
    outer_key bytea;
    fenced    bigint;
BEGIN
    SELECT k.inner_key, k.outer_key INTO inner_key, outer_key FROM headgate.signing_key k;
    PERFORM headgate.refuse_ticket(p_ticket, p_mac, headgate.hmac(inner_key, outer_key, 'ticket|' || p_ticket)),
            set_config('headgate.context', headgate.hmac(inner_key, outer_key, concat_ws('|', pg_backend_pid(),
                CASE p_scope WHEN 't' THEN encode(timestamptz_send(transaction_timestamp()), 'hex') ELSE headgate.session_moment() END, body))
                || '|' || body, p_scope = 't'),
            set_config('application_name', p_app, p_scope = 't'),
            set_config('statement_timeout', p_statement_timeout_ms::text, p_scope = 't'),
            set_config('lock_timeout', p_lock_timeout_ms::text, p_scope = 't'),
            set_config('idle_in_transaction_session_timeout', p_idle_timeout_ms::text, p_scope = 't');
    SELECT f.generation INTO fenced FROM headgate.fence f WHERE f.org_id = part[1]::bigint AND f.generation > p_generation;
    IF FOUND THEN
        RAISE EXCEPTION 'organisation % has moved to another database (generation %, this job began under %)',
            part[1], fenced, p_generation USING ERRCODE = '55000';
    END IF;
    RETURN part;
END $$;

-- What the present transaction acts for: {mac, scope, organisation, job, brand, key}. No
-- context is an error, because a job that forgot it must not see zero rows and believe them.
CREATE FUNCTION headgate.context() RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    context   text := current_setting('headgate.context', true);
    inner_key bytea;
    outer_key bytea;
BEGIN
    SELECT k.inner_key, k.outer_key INTO inner_key, outer_key FROM headgate.signing_key k;
    IF headgate.hmac(inner_key, outer_key, pg_backend_pid() || '|' ||
        CASE substr(context, 66, 1) WHEN 't' THEN encode(timestamptz_send(transaction_timestamp()), 'hex') ELSE headgate.session_moment() END ||
        substr(context, 65)) = left(context, 64) THEN
        RETURN string_to_array(context, '|');
    END IF;
    IF coalesce(context, '') = '' THEN
        RAISE EXCEPTION 'no organisation is set in this transaction'
            USING ERRCODE = '28000', HINT = 'Headgate sets it when a job begins.';
    END IF;
    RAISE EXCEPTION 'the organisation of this transaction is not the one that Headgate has set'
        USING ERRCODE = '28000', HINT = 'headgate.context is set when a job begins, and by nothing else.';
END $$;

CREATE OR REPLACE FUNCTION headgate.current_org() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (headgate.context())[3];
END $$;

-- The tenant's key in the application's tables, where that is no number.
CREATE FUNCTION headgate.current_org_key() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (headgate.context())[6];
END $$;

-- The brand that the job is limited to. NULL is all brands of the organisation.
CREATE FUNCTION headgate.current_brand() RETURNS int
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN nullif((headgate.context())[5], '');
END $$;

-- Opens a read-only job.
CREATE FUNCTION headgate.enter_job(p_ticket text, p_mac text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.open(p_ticket, p_mac, 't', p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
END $$;

-- Opens a job inside the caller's transaction, in one round trip, and writes its ledger
-- row. The insert is the mutual exclusion: while another attempt's transaction with the
-- same key is open it waits (lock_timeout bounds it, 55P03). Returns 'begun', or the state
-- it found with the stored result.
CREATE FUNCTION headgate.begin_job(p_ticket text, p_mac text, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.open(p_ticket, p_mac, 't', p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
    org  bigint := part[1];
    uid  uuid := part[2];
BEGIN
    INSERT INTO headgate.ledger (org_id, job_uid, step) VALUES (org, uid, p_step) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'begun';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = org AND l.job_uid = uid AND l.step = p_step;
END $$;

-- The optimistic form, for long jobs that mostly read: nothing is written, and no lock is
-- held, until the end. Two attempts may work at once; the first to commit wins, and the
-- other finds its row and rolls back.
CREATE FUNCTION headgate.peek_job(p_ticket text, p_mac text, p_step text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.open(p_ticket, p_mac, 't', p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms);
BEGIN
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = part[1]::bigint AND l.job_uid = part[2]::uuid AND l.step = p_step;
    state := coalesce(state, 'begun');
END $$;

-- Opens a job that works outside a transaction, in one round trip of its own: the session
-- lock on its uid, the session's context and limits, the fence, the claim. Returns
-- 'begun'; 'busy' if another session holds the lock; else the state it found: 'claimed' is
-- an earlier attempt that began and never told of its end. All that is set goes when the
-- connection is reset or closed.
CREATE FUNCTION headgate.claim_job(p_ticket text, p_mac text, p_generation bigint, p_app text,
    p_statement_timeout_ms bigint, p_lock_timeout_ms bigint, p_idle_timeout_ms bigint,
    OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.read_ticket(p_ticket, p_mac);
    org  bigint := part[1];
    uid  uuid := part[2];
BEGIN
    IF NOT pg_try_advisory_lock(hashtextextended(uid::text, org)) THEN
        state := 'busy';
        RETURN;
    END IF;
    PERFORM headgate.end_session();
    EXECUTE 'PREPARE headgate_session AS SELECT';
    PERFORM headgate.open(p_ticket, p_mac, 's', p_generation, p_app, p_statement_timeout_ms, p_lock_timeout_ms, p_idle_timeout_ms),
            set_config('idle_session_timeout', p_idle_timeout_ms::text, false);
    INSERT INTO headgate.ledger (org_id, job_uid, two_phase) VALUES (org, uid, true) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'begun';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l
        WHERE l.org_id = org AND l.job_uid = uid AND l.step = '';
END $$;

-- Ends what claim_job has prepared, and with it the session's context.
CREATE FUNCTION headgate.end_session() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'headgate_session') THEN
        EXECUTE 'DEALLOCATE headgate_session';
    END IF;
END $$;

-- What a job may not leave behind: another transaction, role or context, or changes of
-- what all databases of the server share (jobs/guard). Returns the context.
CREATE FUNCTION headgate.leave(p_before text[], p_now text[]) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    -- The second is the transaction's number, '' while it has none.
    IF p_now[1] <> p_before[1] OR p_before[2] <> '' AND p_now[2] <> p_before[2] OR p_now[3:] <> p_before[3:] THEN
        RAISE EXCEPTION 'the job left its transaction or its context' USING ERRCODE = 'HG001', DETAIL = to_json(p_now)::text;
    END IF;
    RETURN headgate.context();
END $$;

-- Marks the job done, as the last statement before COMMIT. It raises, so that a COMMIT
-- behind it in the pipeline is skipped.
CREATE FUNCTION headgate.end_job(p_step text, p_result jsonb, p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context text[] := headgate.leave(p_before, p_now);
    org     bigint := context[3];
    uid     uuid := context[4];
BEGIN
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = org AND job_uid = uid AND step = p_step AND state = 'claimed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the job''s ledger row is gone from its own transaction' USING ERRCODE = 'HG002';
    END IF;
    IF get_byte(uuid_send(uid), 15) % 64 = 0 THEN
        PERFORM headgate.forget_old(uid);
    END IF;
END $$;

-- Writes the row of an optimistic job, done at once. It waits for one of another attempt
-- that is not committed yet (55P03).
CREATE FUNCTION headgate.end_late(p_step text, p_result jsonb, p_before text[], p_now text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context text[] := headgate.leave(p_before, p_now);
    uid     uuid := context[4];
BEGIN
    INSERT INTO headgate.ledger (org_id, job_uid, step, state, result, done_at)
        VALUES (context[3]::bigint, uid, p_step, 'done', p_result, clock_timestamp()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another attempt has done the work' USING ERRCODE = 'HG003';
    END IF;
    PERFORM headgate.forget_old(uid);
END $$;

-- Marks a job of claim_job done; false means that there was no claimed row. The handler
-- may have reset its session, so the worker brings a ticket.
CREATE FUNCTION headgate.finish_job(p_ticket text, p_mac text, p_result jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.read_ticket(p_ticket, p_mac);
    ours boolean;
BEGIN
    UPDATE headgate.ledger SET state = 'done', result = p_result, done_at = clock_timestamp()
        WHERE org_id = part[1]::bigint AND job_uid = part[2]::uuid AND step = '' AND state = 'claimed';
    ours := FOUND;
    PERFORM headgate.forget_old(part[2]::uuid);
    RETURN ours;
END $$;

-- Takes a claim of claim_job back: its holder knows that nothing was done.
CREATE FUNCTION headgate.release_job(p_ticket text, p_mac text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE part text[] := headgate.read_ticket(p_ticket, p_mac);
BEGIN
    DELETE FROM headgate.ledger
        WHERE org_id = part[1]::bigint AND job_uid = part[2]::uuid AND step = '' AND two_phase AND state = 'claimed';
END $$;

-- Answers what became of a job whose COMMIT was never answered: 'done', 'tombstone', or
-- 'absent'. A plain SELECT would not see a commit that is still under way; the insert
-- waits for it (55P03 = still unknown). The caller rolls back, always.
CREATE FUNCTION headgate.probe(p_ticket text, p_mac text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.read_ticket(p_ticket, p_mac);
    org  bigint := part[1];
    uid  uuid := part[2];
BEGIN
    PERFORM set_config('lock_timeout', p_lock_timeout_ms::text, true);
    INSERT INTO headgate.ledger (org_id, job_uid) VALUES (org, uid) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        state := 'absent';
        RETURN;
    END IF;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l WHERE l.org_id = org AND l.job_uid = uid AND l.step = '';
END $$;

-- Settles a job that was cancelled while its worker could not be reached: from now on it
-- can never have its effect, or the answer is 'done' because it has. It waits for an
-- attempt whose transaction is still open, and not for a session of claim_job (55P03: not
-- settled yet). Of a claim whose session is over, 'claimed' says that it may have had a
-- part of its effect, and can have no more.
CREATE FUNCTION headgate.tombstone(p_ticket text, p_mac text, p_lock_timeout_ms bigint, OUT state text, OUT result jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text[] := headgate.read_ticket(p_ticket, p_mac);
    org  bigint := part[1];
    uid  uuid := part[2];
BEGIN
    PERFORM set_config('lock_timeout', p_lock_timeout_ms::text, true);
    IF NOT pg_try_advisory_xact_lock(hashtextextended(uid::text, org)) THEN
        RAISE EXCEPTION 'an attempt at job % is still at work', uid USING ERRCODE = '55P03';
    END IF;
    INSERT INTO headgate.ledger (org_id, job_uid, state, done_at) VALUES (org, uid, 'tombstone', clock_timestamp()) ON CONFLICT DO NOTHING;
    SELECT l.state, l.result INTO state, result FROM headgate.ledger l WHERE l.org_id = org AND l.job_uid = uid AND l.step = '';
    UPDATE headgate.ledger l SET state = 'tombstone', done_at = clock_timestamp()
        WHERE l.org_id = org AND l.job_uid = uid AND l.step = '' AND l.state = 'claimed';
END $$;

-- Leaves a mark and a token, unless what stands there is not what was found any more, or
-- somebody has locked the row: then the mark is left later, and the work goes on. A worker
-- calls it between jobs.
CREATE FUNCTION headgate.leave_centre(p_ticket text, p_mac text, p_found_centre text, p_found_token text, p_centre text, p_token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
BEGIN
    PERFORM headgate.read_ticket(p_ticket, p_mac);
    -- A mark that a crash loses is left again. Nobody waits for a standby because of it.
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE headgate.identity SET centre = p_centre, token = p_token
        WHERE centre IS NOT DISTINCT FROM p_found_centre AND token IS NOT DISTINCT FROM p_found_token;
    RETURN FOUND;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA headgate FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headgate.current_org(), headgate.current_org_key(), headgate.current_brand(),
    headgate.enter_job, headgate.begin_job, headgate.peek_job, headgate.claim_job, headgate.end_session, headgate.end_job, headgate.end_late,
    headgate.finish_job, headgate.release_job, headgate.probe, headgate.tombstone, headgate.leave_centre
TO headgate_job;
