-- The erasure of a removed tenant: a job deletes the tenant's rows in its database, and then
-- what the history here keeps of its jobs. Who may end jobs may not by that alone read or
-- change outcomes, so the functions below work as their owner, for tenants only whose erasure
-- somebody has asked for.
CREATE TABLE headgate.erasures (
    tenant_id uuid PRIMARY KEY REFERENCES headgate.tenants,
    job_uid   uuid NOT NULL,              -- the job that erases; a later request has another one
    operation uuid NOT NULL,              -- of the audit, which joins the request and the end
    asked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_by  text NOT NULL,
    reason    text NOT NULL,
    done_at   timestamptz,
    rows      bigint NOT NULL DEFAULT 0   -- that the last attempt has deleted in the tenant's database
);

SELECT headgate.audit_table('erasures', 'erasure', 'tenant_id', 'tenant_id', 'tenant_id', 'asked_at,operation');

-- Refuses to touch what is kept of a tenant that was not removed, or whose erasure nobody
-- has asked for.
CREATE FUNCTION headgate.refuse_unerased(p_tenant uuid) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM headgate.erasures e JOIN headgate.tenants t ON t.id = e.tenant_id
                   WHERE e.tenant_id = p_tenant AND e.done_at IS NULL AND t.status = 'removed') THEN
        RAISE EXCEPTION 'the erasure of tenant % is not asked for, or has ended', p_tenant USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Clears the next outcomes of a tenant before a moment and an id, newest first: what an
-- attempt has said and made; the keys of report files may be kept. Whose it was, when, how often and how it ended stay. Lines that
-- handlers have logged go. It returns how many outcomes it has looked at, how many somebody
-- else has locked, and the last one. The walk by the moment keeps each call as small as the
-- first.
CREATE FUNCTION headgate.erase_history(p_tenant uuid, p_before timestamptz, p_id uuid, p_limit int, p_keep_files boolean,
    OUT looked bigint, OUT locked bigint, OUT last_at timestamptz, OUT last_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM headgate.refuse_unerased(p_tenant);
    WITH batch AS MATERIALIZED (
        SELECT o.id, o.ended_at, o.job_uid FROM headgate.outcomes o
        WHERE o.tenant_id = p_tenant AND o.ended_at <= p_before AND (o.ended_at, o.id) < (p_before, p_id)
        ORDER BY o.ended_at DESC, o.id DESC LIMIT p_limit
    ), free AS MATERIALIZED (
        SELECT o.id, o.ended_at FROM headgate.outcomes o JOIN batch b ON o.id = b.id AND o.ended_at = b.ended_at
        FOR UPDATE OF o SKIP LOCKED
    ), cleared AS (
        UPDATE headgate.outcomes o SET message = '', trace = '', features = NULL,
            output = CASE WHEN p_keep_files AND o.kind = 'headgate.report' THEN o.output ELSE '' END
        FROM free f WHERE o.id = f.id AND o.ended_at = f.ended_at
          AND ((o.message, o.trace, o.output) IS DISTINCT FROM ('', '', '') OR o.features IS NOT NULL)
    ), lines AS (
        DELETE FROM headgate.job_logs g USING batch b WHERE g.job_uid = b.job_uid AND g.ended_at = b.ended_at AND g.id = b.id
    )
    SELECT count(*), count(*) - (SELECT count(*) FROM free), (array_agg(b.ended_at ORDER BY b.ended_at, b.id))[1], (array_agg(b.id ORDER BY b.ended_at, b.id))[1]
    INTO looked, locked, last_at, last_id FROM batch b;
END $$;

-- Marks an erasure as ended, in the operation in which it was asked for. It returns false if
-- it has ended already.
CREATE FUNCTION headgate.end_erasure(p_tenant uuid, p_job uuid, p_rows bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('headgate.operation', e.operation::text, true), set_config('headgate.reason', e.reason, true)
    FROM headgate.erasures e WHERE e.tenant_id = p_tenant;
    UPDATE headgate.erasures SET done_at = clock_timestamp(), rows = p_rows WHERE tenant_id = p_tenant AND job_uid = p_job AND done_at IS NULL;
    RETURN FOUND;
END $$;
