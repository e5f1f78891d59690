-- Who acts, as the transaction says it; its operation, which begins with its first row; and
-- the month that its rows go to. An operation is of the login that wrote its first entry. What
-- another login says under the same UUID is an operation of its own, the same each time. Of two
-- logins that begin one operation together, the second waits until it sees the first one's
-- entry. The end of an erasure is the exception: a worker's login ends what another one asked for.
CREATE OR REPLACE FUNCTION headgate.audit_actor(OUT operation uuid, OUT login text, OUT actor text, OUT surface text, OUT reason text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_said  uuid := headgate.uuid_or_null(current_setting('headgate.operation', true));
    v_first text;
BEGIN
    login := session_user;
    operation := v_said;
    IF v_said IS NULL THEN
        operation := gen_random_uuid();
        PERFORM set_config('headgate.operation', operation::text, true);
    ELSE
        SELECT a.login INTO v_first FROM headgate.audit a WHERE a.operation = v_said ORDER BY a.id LIMIT 1;
        IF v_first IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtextextended('headgate.operation ' || v_said::text, 0));
            SELECT a.login INTO v_first FROM headgate.audit a WHERE a.operation = v_said ORDER BY a.id LIMIT 1;
        END IF;
        IF v_first <> session_user AND NOT EXISTS (
            SELECT FROM headgate.erasures e WHERE e.operation = v_said AND e.done_at >= transaction_timestamp()) THEN
            operation := md5(v_said::text || ' ' || session_user)::uuid;
        END IF;
    END IF;
    actor := left(coalesce(current_setting('headgate.actor', true), ''), 200);
    surface := left(coalesce(nullif(current_setting('headgate.surface', true), ''), current_setting('application_name', true), ''), 200);
    reason := left(coalesce(current_setting('headgate.reason', true), ''), 500);
    PERFORM headgate.add_audit_month(clock_timestamp());
END $$;

-- Records what somebody has done that changes no row of an audited table: which schedule was
-- triggered or backfilled. p_changes is as in headgate.audit. The schedule is there, the entry
-- bears its name and tenant, and a schedule has at most 1,000 events a minute. Its row is
-- locked, so that two sessions do not count past each other.
CREATE OR REPLACE FUNCTION headgate.audit_event(p_object text, p_action text, p_key text, p_name text, p_tenant uuid, p_changes jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_wrong  text;
    v_id     uuid;
    v_name   text;
    v_tenant uuid;
    v_recent bigint;
BEGIN
    v_wrong := CASE
        WHEN p_object IS DISTINCT FROM 'schedule' THEN format('object %s: the only one is schedule', coalesce(left(p_object, 80), 'NULL'))
        WHEN p_action IS NULL OR p_action NOT IN ('trigger', 'backfill') THEN format('action %s: give trigger or backfill', coalesce(left(p_action, 80), 'NULL'))
        WHEN headgate.uuid_or_null(p_key) IS NULL THEN format('key %s: give the UUID of the schedule', coalesce(left(p_key, 80), 'NULL'))
        WHEN pg_column_size(p_changes) > 10000 OR length(p_changes::text) > 10000 THEN 'changes: give at most 10000 characters'
        WHEN NOT headgate.are_changes(p_changes) THEN 'changes: give an array of objects with field, a text, before and after'
    END;
    IF v_wrong IS NULL THEN
        SELECT s.id, s.name, s.tenant_id INTO v_id, v_name, v_tenant FROM headgate.schedules s WHERE s.id = headgate.uuid_or_null(p_key) FOR NO KEY UPDATE;
        v_wrong := CASE
            WHEN v_id IS NULL THEN format('key %s: no schedule has this UUID', left(p_key, 80))
            WHEN p_name IS DISTINCT FROM v_name THEN format('name %s: the schedule is called %s, give that', coalesce(left(p_name, 80), 'NULL'), v_name)
            WHEN p_tenant IS DISTINCT FROM v_tenant THEN format('tenant %s: the schedule belongs to %s, give that', coalesce(p_tenant::text, 'NULL'), coalesce(v_tenant::text, 'NULL, no tenant'))
        END;
    END IF;
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('recording an event in headgate.audit: %s; nothing was recorded', v_wrong),
            HINT = 'Changes of rows are recorded by triggers.';
    END IF;
    -- The latest of a schedule are read by index, 1,000 at most.
    SELECT count(*) INTO v_recent FROM (
        SELECT a.at, a.action FROM headgate.audit a WHERE a.object = 'schedule' AND a.key = v_id::text ORDER BY a.id DESC LIMIT 1000) l
    WHERE l.at > clock_timestamp() - interval '1 minute' AND l.action IN ('trigger', 'backfill');
    IF v_recent >= 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded',
            MESSAGE = format('recording an event in headgate.audit: schedule %s has had 1000 events within a minute, and that is the most; nothing was recorded', v_name),
            HINT = 'Try again in a minute.';
    END IF;
    INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
    SELECT a.*, p_object, p_action, v_id::text, v_name, v_tenant, p_changes FROM headgate.audit_actor() AS a;
END $$;
