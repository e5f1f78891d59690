-- Who changed what of what people decide: the catalog, limits, pauses, grants, schedules.
-- Triggers write the rows, so that psql and older programs are seen too. Rows are added and
-- never changed.
CREATE SEQUENCE headgate.audit_id_seq;

CREATE TABLE headgate.audit (
    id        bigint NOT NULL DEFAULT nextval('headgate.audit_id_seq'),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    operation uuid NOT NULL,      -- the same in all rows of one transaction, or of several that say so
    object    text NOT NULL,      -- tenant, domain, schedule, …
    -- add, change and remove, of a row; of what changes no row that is audited, its verb.
    action    text NOT NULL CHECK (action ~ '^[a-z]{1,30}$'),
    key       text NOT NULL,      -- the row's primary key
    name      text NOT NULL,      -- as people know the row
    tenant_id uuid,               -- whose row that is; NULL: nobody's in particular
    login     text NOT NULL,      -- session_user: what Postgres knows
    actor     text NOT NULL,      -- what the program says of who works with it
    surface   text NOT NULL,      -- the program
    reason    text NOT NULL,
    changes   jsonb NOT NULL,     -- [{field, before, after}] of what differs
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);

ALTER SEQUENCE headgate.audit_id_seq OWNED BY headgate.audit.id;

CREATE INDEX audit_tenant ON headgate.audit (tenant_id, id) WHERE tenant_id IS NOT NULL;
CREATE INDEX audit_row ON headgate.audit (object, key, id);
CREATE INDEX audit_operation ON headgate.audit (operation, id);

CREATE FUNCTION headgate.audit_stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'rows of headgate.audit are neither changed nor deleted' USING ERRCODE = 'insufficient_privilege',
        HINT = 'They go by whole months, when the janitor drops a month that is old enough.';
END $$;

CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON headgate.audit FOR EACH ROW EXECUTE FUNCTION headgate.audit_stays();
CREATE TRIGGER audit_stays_whole BEFORE TRUNCATE ON headgate.audit FOR EACH STATEMENT EXECUTE FUNCTION headgate.audit_stays();

-- Makes the partition of the month (of UTC) that a time lies in, and returns its name; NULL
-- if it is there, or another transaction has just made it. There is no default partition:
-- whoever writes the first row of a month that nobody has made makes it.
CREATE FUNCTION headgate.add_audit_month(p_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET timezone = 'UTC' SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    start timestamptz := date_trunc('month', p_at);
    name  text := to_char(p_at, '"audit_"YYYY_MM');
BEGIN
    IF to_regclass('headgate.' || name) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE headgate.%I PARTITION OF headgate.audit FOR VALUES FROM (%L) TO (%L)', name, start, start + interval '1 month');
    EXECUTE format('CREATE TRIGGER audit_stays_whole BEFORE TRUNCATE ON headgate.%I FOR EACH STATEMENT EXECUTE FUNCTION headgate.audit_stays()', name);
    RETURN name;
EXCEPTION
    WHEN duplicate_table OR unique_violation THEN
        RETURN NULL;
END $$;

-- Drops the months that ended before a time and returns their names.
CREATE FUNCTION headgate.drop_audit_months(p_before timestamptz) RETURNS text[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT headgate.drop_parts('audit', 'month', p_before) $$;

-- A row as the audit keeps it: without what is of no decision (p_skip); sealed values as a
-- token that tells two of them apart; each label and feature as a field of its own.
CREATE FUNCTION headgate.audited(p_row jsonb, p_skip text[], p_sealed text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((SELECT jsonb_object_agg(r.key, r.value) FROM jsonb_each(p_row - p_skip - p_sealed - ARRAY['labels', 'features']) AS r WHERE r.value <> 'null'), '{}')
        || coalesce((SELECT jsonb_object_agg(s, 'sealed ' || left(md5(p_row->>s), 8)) FROM unnest(p_sealed) AS s WHERE p_row->>s IS NOT NULL), '{}')
        || coalesce((SELECT jsonb_object_agg('labels.' || l.key, l.value) FROM jsonb_each(CASE WHEN jsonb_typeof(p_row->'labels') = 'object' THEN p_row->'labels' ELSE '{}' END) AS l), '{}')
        || coalesce((SELECT jsonb_object_agg('features.' || f.key, f.value) FROM jsonb_each(CASE WHEN jsonb_typeof(p_row->'features') = 'object' THEN p_row->'features' ELSE '{}' END) AS f), '{}')
$$;

-- What a row of the audit says of the row that it is about: whole is that row, as it was
-- before if it was there, before and
-- after are what is kept of it (audited), NULL where it was added or removed.
CREATE FUNCTION headgate.audit_line(p_args text[], whole jsonb, before jsonb, after jsonb)
RETURNS TABLE (object text, action text, key text, name text, tenant_id uuid, changes jsonb)
LANGUAGE sql STABLE AS $$
    SELECT p_args[1], CASE WHEN before IS NULL THEN 'add' WHEN after IS NULL THEN 'remove' ELSE 'change' END,
           (SELECT string_agg(coalesce(whole->>k, ''), '/' ORDER BY n) FROM unnest(string_to_array(p_args[2], ',')) WITH ORDINALITY AS x (k, n)),
           coalesce(whole->>p_args[3], ''),
           CASE WHEN p_args[4] <> 'target' OR whole->>'scope' = 'tenant' THEN headgate.uuid_or_null(whole->>p_args[4]) END, -- of pauses
           headgate.changed_fields(coalesce(before, '{}'), coalesce(after, '{}'))
$$;

-- Who acts, as the transaction says it; its operation, which begins with its first row; and
-- the month that its rows go to.
CREATE FUNCTION headgate.audit_actor(OUT operation uuid, OUT login text, OUT actor text, OUT surface text, OUT reason text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    operation := headgate.uuid_or_null(current_setting('headgate.operation', true));
    IF operation IS NULL THEN
        operation := gen_random_uuid();
        PERFORM set_config('headgate.operation', operation::text, true);
    END IF;
    login := session_user;
    actor := left(coalesce(current_setting('headgate.actor', true), ''), 200);
    surface := left(coalesce(nullif(current_setting('headgate.surface', true), ''), current_setting('application_name', true), ''), 200);
    reason := left(coalesce(current_setting('headgate.reason', true), ''), 500);
    PERFORM headgate.add_audit_month(clock_timestamp());
END $$;

-- The trigger of a statement. It works as the owner of the audit. Its arguments: the object's
-- name, the key's columns, the column that people know the row by, the column of its tenant,
-- the columns that are left out, and those that are sealed. A change of the key is a removal
-- and an addition.
CREATE FUNCTION headgate.audit_statement() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_args   text[] := TG_ARGV[0:3];
    v_key    text[] := string_to_array(TG_ARGV[1], ',');
    v_skip   text[] := string_to_array(TG_ARGV[4], ',');
    v_sealed text[] := string_to_array(TG_ARGV[5], ',');
    v_by     record;
BEGIN
    -- Most statements of programs that keep rows as they are change nothing.
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (SELECT FROM new_rows) THEN
            RETURN NULL;
        END IF;
    ELSIF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO v_by FROM headgate.audit_actor();
    IF TG_OP = 'INSERT' THEN
        INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
        SELECT v_by.operation, v_by.login, v_by.actor, v_by.surface, v_by.reason, l.*
        FROM (SELECT to_jsonb(n) FROM new_rows n) AS r (whole)
        CROSS JOIN LATERAL headgate.audit_line(v_args, whole, NULL, headgate.audited(whole, v_skip, v_sealed)) AS l;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
        SELECT v_by.operation, v_by.login, v_by.actor, v_by.surface, v_by.reason, l.*
        FROM (SELECT to_jsonb(o) FROM old_rows o) AS r (whole)
        CROSS JOIN LATERAL headgate.audit_line(v_args, whole, headgate.audited(whole, v_skip, v_sealed), NULL) AS l;
    ELSE
        INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
        SELECT v_by.operation, v_by.login, v_by.actor, v_by.surface, v_by.reason, l.*
        FROM (SELECT w, headgate.audited(w, v_skip, v_sealed), ARRAY(SELECT w->>k FROM unnest(v_key) AS k) FROM (SELECT to_jsonb(r) FROM old_rows r) AS x (w)) AS o (whole, kept, key)
        FULL JOIN (SELECT w, headgate.audited(w, v_skip, v_sealed), ARRAY(SELECT w->>k FROM unnest(v_key) AS k) FROM (SELECT to_jsonb(r) FROM new_rows r) AS x (w)) AS n (whole, kept, key) ON n.key = o.key
        CROSS JOIN LATERAL headgate.audit_line(v_args, coalesce(o.whole, n.whole), o.kept, n.kept) AS l
        WHERE o.kept IS DISTINCT FROM n.kept;
    END IF;
    RETURN NULL;
END $$;

-- The trigger of a row, with the same arguments, of a table whose rows change all the time
-- without anybody's decision. Its WHEN knows the decisions, and nothing is copied for the
-- other changes.
CREATE FUNCTION headgate.audit_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_skip   text[] := string_to_array(TG_ARGV[4], ',');
    v_sealed text[] := string_to_array(TG_ARGV[5], ',');
BEGIN
    INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
    SELECT a.*, l.*
    FROM headgate.audit_actor() AS a
    CROSS JOIN LATERAL headgate.audit_line(TG_ARGV[0:3], to_jsonb(CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END),
        CASE WHEN TG_OP <> 'INSERT' THEN headgate.audited(to_jsonb(OLD), v_skip, v_sealed) END,
        CASE WHEN TG_OP <> 'DELETE' THEN headgate.audited(to_jsonb(NEW), v_skip, v_sealed) END) AS l;
    RETURN NULL;
END $$;

-- Records what somebody has done that changes no row of an audited table. p_changes is as in
-- headgate.audit.
CREATE FUNCTION headgate.audit_event(p_object text, p_action text, p_key text, p_name text, p_tenant uuid, p_changes jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO headgate.audit (operation, login, actor, surface, reason, object, action, key, name, tenant_id, changes)
    SELECT a.*, p_object, p_action, p_key, p_name, p_tenant, p_changes FROM headgate.audit_actor() AS a
$$;

-- Has a table audited, by triggers of statements.
CREATE FUNCTION headgate.audit_table(p_table text, p_object text, p_key text, p_name text, p_tenant text, p_skip text DEFAULT '', p_sealed text DEFAULT '') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_call text := format('headgate.audit_statement(%L, %L, %L, %L, %L, %L)', p_object, p_key, p_name, p_tenant, p_skip, p_sealed);
BEGIN
    EXECUTE format('CREATE TRIGGER audit_added AFTER INSERT ON headgate.%I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %s', p_table, v_call);
    EXECUTE format('CREATE TRIGGER audit_changed AFTER UPDATE ON headgate.%I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %s', p_table, v_call);
    EXECUTE format('CREATE TRIGGER audit_removed AFTER DELETE ON headgate.%I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION %s', p_table, v_call);
END $$;

SELECT headgate.audit_table('regions', 'region', 'name', 'name', '', 'created_at');
SELECT headgate.audit_table('servers', 'server', 'id', 'name', '', 'created_at,state_since');
SELECT headgate.audit_table('databases', 'database', 'id', 'name', '', 'created_at,job_version,owner_version,job_direct_version,owner_direct_version,job_read_version,protection_since,state_since', 'job_login,owner_login,job_direct,owner_direct,job_read,signing_key');
SELECT headgate.audit_table('database_intents', 'database intent', 'id', 'name', '', 'begun_at,step,error', 'job_password,owner_password,app_password');
SELECT headgate.audit_table('adoptions', 'adoption', 'database_id', 'database_id', '', 'found,decided_at');
SELECT headgate.audit_table('certificate_authorities', 'certificate authority', 'name', 'name', '', 'created_at,pem');
SELECT headgate.audit_table('keys', 'key', 'id', 'id', '', 'seen_at');
SELECT headgate.audit_table('tenants', 'tenant', 'id', 'slug', 'id', 'created_at,version,database_kind,status_since');
SELECT headgate.audit_table('tenant_domains', 'domain', 'domain', 'domain', 'tenant_id', 'created_at');
SELECT headgate.audit_table('tenant_emails', 'email domain', 'domain', 'domain', 'tenant_id', 'created_at');
SELECT headgate.audit_table('brands', 'brand', 'tenant_id,brand_id', 'name', 'tenant_id', 'created_at');
SELECT headgate.audit_table('plans', 'plan', 'name', 'name', '', 'created_at');
SELECT headgate.audit_table('features', 'feature', 'name', 'name', '', 'created_at');
SELECT headgate.audit_table('feature_gates', 'feature gate', 'feature,kind,schedule', 'feature', '', 'created_at');
SELECT headgate.audit_table('tenant_limits', 'tenant limit', 'tenant_id', 'tenant_id', 'tenant_id');
SELECT headgate.audit_table('plan_limits', 'plan limit', 'plan', 'plan', '');
SELECT headgate.audit_table('kind_limits', 'kind limit', 'kind', 'kind', '');
SELECT headgate.audit_table('queue_limits', 'queue limit', 'queue', 'queue', '');
SELECT headgate.audit_table('pauses', 'pause', 'scope,target', 'target', 'target', 'since');
SELECT headgate.audit_table('enqueue_grants', 'enqueue grant', 'role,kind,tenants', 'role', '', 'granted_at');
SELECT headgate.audit_table('calendars', 'calendar', 'name', 'name', '');
SELECT headgate.audit_table('closures', 'closure', 'name', 'name', 'tenant_id');
SELECT headgate.audit_table('fleets', 'template', 'id', 'name', '', 'created_at,version,selection');
SELECT headgate.audit_table('fleet_overrides', 'template override', 'fleet_id,tenant_id', 'fleet_id', 'tenant_id');

SELECT headgate.add_audit_month(now() + make_interval(months => ahead)) FROM generate_series(0, 2) AS ahead;
