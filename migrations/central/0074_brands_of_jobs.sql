-- A job, and a schedule, may be limited to one brand of its tenant. NULL is all brands.

ALTER TABLE headgate.schedules ADD COLUMN brand_id int CHECK (brand_id BETWEEN 0 AND 9999);
ALTER TABLE headgate.fleets ADD COLUMN brand_id int CHECK (brand_id BETWEEN 0 AND 9999);

-- Makes the rows of fleets fit what they select: of these fleets or of all (NULL), for
-- these tenants or for all (NULL). It returns how many rows were not as they should be.
-- A tenant's own schedule of the same name stays its own. The caller holds the lock of
-- selectors (orchestrator/plan.go), taken by a statement before this one. The plans are
-- made for the tenants at hand, because one is as usual as all. NOT IN is a hash, whatever
-- is estimated of rows that nobody has analysed yet; neither column of it is NULL.
CREATE OR REPLACE FUNCTION headgate.sync_schedules(p_fleets uuid[], p_tenants uuid[]) RETURNS int
LANGUAGE plpgsql SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    at    timestamptz := clock_timestamp();
    n     int;
    wrong int;
BEGIN
    DELETE FROM headgate.schedules s
    WHERE s.fleet_id IS NOT NULL AND (p_fleets IS NULL OR s.fleet_id = ANY (p_fleets)) AND (p_tenants IS NULL OR s.tenant_id = ANY (p_tenants))
      AND (s.fleet_id, s.tenant_id) NOT IN (SELECT c.fleet_id, c.tenant_id FROM headgate.selections(p_fleets, p_tenants) c);
    GET DIAGNOSTICS wrong = ROW_COUNT;

    UPDATE headgate.schedules s
    SET kind = f.kind, args = coalesce(o.args, f.args), queue = f.queue, priority = f.priority, max_attempts = f.max_attempts,
        cron = coalesce(o.cron, f.cron), zone = coalesce(o.zone, nullif(f.zone, ''), t.timezone),
        gap = f.gap, repeat = f.repeat, start_at = f.start_at, end_at = f.end_at, max_occurrences = f.max_occurrences,
        calendars = f.calendars, windows = f.windows, spread = f.spread, overlap = f.overlap, buffer_max = f.buffer_max,
        catch_up = f.catch_up, catch_up_max = f.catch_up_max, catch_up_window = f.catch_up_window, pause_after = f.pause_after, maintenance = f.maintenance, brand_id = f.brand_id,
        version = s.version + 1, fleet_version = f.version, error = '', fresh = true,
        next_run_at = CASE WHEN s.paused THEN s.paused_until ELSE at END
    FROM headgate.fleets f
    CROSS JOIN headgate.tenants t
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    WHERE s.fleet_id = f.id AND t.id = s.tenant_id AND (p_fleets IS NULL OR f.id = ANY (p_fleets)) AND (p_tenants IS NULL OR s.tenant_id = ANY (p_tenants))
      AND (s.fleet_version <> f.version OR s.zone <> coalesce(o.zone, nullif(f.zone, ''), t.timezone));
    GET DIAGNOSTICS n = ROW_COUNT;
    wrong := wrong + n;

    INSERT INTO headgate.schedules (id, tenant_id, fleet_id, fleet_version, name, kind, args, queue, priority, max_attempts, cron, zone,
        gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread, overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, maintenance, brand_id,
        fresh, answered_at, next_run_at)
    SELECT gen_random_uuid(), t.id, f.id, f.version, f.name, f.kind, coalesce(o.args, f.args), f.queue, f.priority, f.max_attempts,
        coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
        f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences, f.calendars, f.windows, f.spread, f.overlap, f.buffer_max,
        f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, f.brand_id, true, at, at
    FROM headgate.selections(p_fleets, p_tenants) c
    JOIN headgate.fleets f ON f.id = c.fleet_id
    JOIN headgate.tenants t ON t.id = c.tenant_id
    JOIN headgate.databases d ON d.id = t.database_id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    WHERE NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.tenant_id = t.id AND s.name = f.name)
    ORDER BY f.id, d.server_id, t.id      -- neighbours on a server get neighbouring places in spreads
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN wrong + n;
END $$;

-- What of the schedules of a file's fleets is otherwise than the fleets say: rows that
-- are missing (schedule_id is NULL), a tenant's own in their place, in error, paused, or
-- different in fields. Those are all columns of fleets that a file can ask for: the fields
-- that are named come from the rows themselves, the quick comparison has a list, and
-- TestDriftSeesEveryField holds the list against the tables. A merge join
-- by the name alone compared each tenant's row with every other's: 26 s instead of 1 s of
-- 20,000 rows beside 20,000 fleets that nobody had analysed yet.
CREATE OR REPLACE FUNCTION headgate.schedule_drift(p_file text)
RETURNS TABLE (name text, slug text, schedule_id uuid, state text, note text, changed jsonb)
LANGUAGE sql STABLE SET enable_mergejoin = off AS $$
    SELECT f.name, t.slug, s.id,
        CASE WHEN s.id IS NULL THEN 'missing' WHEN s.fleet_id IS DISTINCT FROM f.id THEN 'own' WHEN s.error <> '' THEN 'error' WHEN s.paused THEN 'paused' ELSE 'changed' END,
        CASE WHEN s.error <> '' THEN s.error WHEN s.paused THEN s.paused_note ELSE '' END,
        CASE WHEN s.fleet_id = f.id THEN headgate.changed_fields((SELECT jsonb_object_agg(key, value) FROM jsonb_each(h.whole) WHERE w.whole ? key), w.whole) END
    FROM headgate.fleets f
    CROSS JOIN LATERAL (SELECT to_jsonb(f) - ARRAY['id', 'name', 'version', 'created_at', 'managed_by', 'selector', 'selection'] AS own) c
    CROSS JOIN LATERAL headgate.selected(f.selection) AS x
    JOIN headgate.tenants t ON t.id = x.tenant_id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    LEFT JOIN headgate.schedules s ON s.tenant_id = t.id AND s.name = f.name
    CROSS JOIN LATERAL (SELECT to_jsonb(s) AS whole) h
    CROSS JOIN LATERAL (SELECT c.own || jsonb_build_object('cron', coalesce(o.cron, f.cron), 'zone', coalesce(o.zone, nullif(f.zone, ''), t.timezone), 'args', coalesce(o.args, f.args)) AS whole) w
    WHERE f.managed_by = p_file
      AND (s.id IS NULL OR s.fleet_id IS DISTINCT FROM f.id OR s.error <> '' OR s.paused
        OR (s.kind, s.args::text, s.queue, s.priority, s.max_attempts, s.cron, s.zone, s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences,
            s.calendars, s.windows, s.spread, s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance, s.brand_id)
        IS DISTINCT FROM
           (f.kind, coalesce(o.args, f.args)::text, f.queue, f.priority, f.max_attempts, coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences,
            f.calendars, f.windows, f.spread, f.overlap, f.buffer_max, f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, f.brand_id))
$$;

-- Refuses a brand that the tenant does not have, for headgate.enqueue.
CREATE FUNCTION headgate.refuse_brand(p_tenant uuid, p_slug text, p_brand int) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_brand IS NOT NULL AND NOT EXISTS (SELECT FROM headgate.brands b WHERE b.tenant_id = p_tenant AND b.brand_id = p_brand) THEN
        PERFORM headgate.refuse('HG110', 'brand', format('brand %s: tenant %s has no brand of this number', p_brand, headgate.quoted(p_slug)), 'Leave brand out for a job of all brands.');
    END IF;
END $$;

-- As in 0058, with selections of grants, the brand, and the refusal of kinds that the tenant
-- may not have.
DROP FUNCTION headgate.enqueue(text, text, jsonb, timestamptz, text, int, text);
CREATE FUNCTION headgate.enqueue(kind text, tenant text, args jsonb DEFAULT '{}', run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, idempotency_key text DEFAULT NULL, brand int DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    p_kind    text := enqueue.kind;
    p_tenant  text := enqueue.tenant;
    p_args    jsonb := enqueue.args;
    p_run_at  timestamptz := enqueue.run_at;
    p_key     text := enqueue.idempotency_key;
    v_said    text := headgate.quoted(enqueue.kind);
    v_known   record;
    v_granted headgate.selection[];
    v_all     boolean;
    v_tenant  headgate.tenants;
    v_queue   text;
    v_missing text;
    v_uid     uuid := headgate.new_uid();
    v_taken   record;
BEGIN
    IF p_kind IS NULL OR p_kind !~ '^[a-zA-Z0-9_][a-zA-Z0-9_\-\[\]<>/.·:+]{1,126}$' THEN
        PERFORM headgate.refuse('HG100', 'kind', format('kind %s: a kind''s name is 2 to 127 of the letters a to z and A to Z, digits, and _ - . : / + < > [ ] ·, beginning with a letter, a digit or _', v_said),
            'Give the name that the worker''s program registers.');
    END IF;
    SELECT k.* INTO v_known FROM headgate.known_kind(p_kind) k;
    v_granted := CASE WHEN starts_with(p_kind, 'headgate.tombstone') THEN '{}' ELSE ARRAY(SELECT g FROM headgate.granted_tenants(session_user, p_kind, coalesce(v_known.owner, false)) g) END;
    IF cardinality(v_granted) = 0 THEN
        PERFORM headgate.refuse('HG103', 'kind', format('kind %s: login %s may not enqueue it', v_said, quote_ident(session_user)),
            CASE WHEN starts_with(p_kind, 'headgate.tombstone') THEN 'Headgate alone enqueues it.'
                 WHEN p_kind IN ('headgate.analyze', 'headgate.vacuum') THEN 'It works on a whole database: headgate job enqueue KIND --database NAME enqueues it.'
                 ELSE format('An operator allows it: headgate enqueue-grant add %s %s --tenant SLUG', quote_ident(session_user), p_kind) END);
    END IF;
    IF NOT v_known.known THEN
        PERFORM headgate.refuse('HG104', 'kind', format('kind %s: no worker has published it', v_said),
            'See that the name is right, and start a worker whose program registers the kind; its kinds are known once it has started.');
    ELSIF v_known.scope = 'database' THEN
        PERFORM headgate.refuse('HG107', 'kind', format('kind %s: it works on a whole database, and headgate.enqueue is for tenants', v_said),
            'headgate job enqueue KIND --database NAME enqueues it.');
    END IF;

    SELECT t.* INTO v_tenant FROM headgate.tenants t
    WHERE CASE WHEN p_tenant ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN t.id = headgate.uuid_or_null(lower(p_tenant))
               WHEN p_tenant ~ '^[1-9][0-9]{0,17}$' THEN t.org_id = p_tenant::bigint
               ELSE t.slug = p_tenant END;
    v_all := EXISTS (SELECT FROM unnest(v_granted) g WHERE g.path IS NULL);
    IF v_tenant.id IS NULL AND v_all THEN
        PERFORM headgate.refuse('HG101', 'tenant', format('tenant %s: no tenant has this slug, UUID or org_id', headgate.quoted(p_tenant)), 'headgate tenant list shows the tenants.');
    ELSIF v_tenant.id IS NULL OR NOT v_all AND NOT EXISTS (
        SELECT FROM headgate.tenant_documents d CROSS JOIN unnest(v_granted) g WHERE d.id = v_tenant.id AND d.document @@ g.path) THEN
        PERFORM headgate.refuse('HG103', 'tenant', format('tenant %s: login %s may not enqueue kind %s for it', headgate.quoted(p_tenant), quote_ident(session_user), v_said),
            format('headgate enqueue-grant list --role %s shows what is allowed.', quote_ident(session_user)));
    ELSIF v_tenant.status NOT IN ('active', 'moving') THEN
        PERFORM headgate.refuse('HG102', 'tenant', format('tenant %s is %s and takes no work', headgate.quoted(v_tenant.slug), v_tenant.status || CASE WHEN v_tenant.status_reason <> '' THEN ' (' || v_tenant.status_reason || ')' ELSE '' END), 'headgate tenant list shows its status.');
    END IF;
    PERFORM headgate.refuse_kind(v_tenant.id, v_tenant.slug, p_kind), headgate.refuse_brand(v_tenant.id, v_tenant.slug, enqueue.brand);

    v_queue := coalesce(enqueue.queue, v_known.queue);
    PERFORM headgate.check_job(p_args, v_queue, enqueue.priority, p_run_at, p_key);
    SELECT r.name INTO v_missing FROM unnest(v_known.required) r (name) WHERE NOT p_args ? r.name LIMIT 1;
    IF FOUND THEN
        PERFORM headgate.refuse('HG105', 'args', format('args of kind %s lack %s', v_said, headgate.quoted(v_missing)),
            format('Every worker that has the kind requires: %s.', array_to_string(v_known.required, ', ')));
    END IF;
    IF p_run_at < clock_timestamp() - interval '1 minute'
       AND NOT EXISTS (SELECT FROM headgate.idempotency_keys k WHERE k.scope = v_tenant.id AND k.key = p_key) THEN
        PERFORM headgate.refuse('HG100', 'run_at', format('run_at %s: it is past', headgate.quoted(p_run_at::text)), 'Leave run_at out to run now.');
    END IF;

    IF p_key IS NOT NULL THEN
        SELECT k.* INTO v_taken FROM headgate.take_key(v_tenant.id, p_key, p_kind, p_args, v_uid) k;
        IF v_taken.differs <> '' THEN
            PERFORM headgate.refuse('HG106', 'idempotency_key', format('idempotency_key %s was used for another request, job %s: the %s differ', headgate.quoted(p_key), v_taken.job_uid, v_taken.differs),
                'Give the same request again, or another key.');
        ELSIF v_taken.job_uid <> v_uid THEN
            RETURN v_taken.job_uid;
        END IF;
    END IF;
    PERFORM headgate.insert_job(p_kind, p_args, jsonb_build_object('job_uid', v_uid, 'tenant', v_tenant.id) || CASE WHEN enqueue.brand IS NULL THEN '{}' ELSE jsonb_build_object('brand', enqueue.brand) END,
        v_queue, coalesce(enqueue.priority, v_known.priority)::smallint, v_known.max_attempts, p_run_at);
    IF p_run_at IS NULL THEN
        PERFORM headgate.notify_queues(ARRAY[v_queue]);
    END IF;
    RETURN v_uid;
END $$;
