-- A brand belongs to what a schedule and an idempotency key refer to: no brand is removed that
-- a schedule is limited to, and a key stands for a request of one brand.

-- A schedule's brand is a brand of its tenant. Schedules of databases have none.
ALTER TABLE headgate.schedules ADD CONSTRAINT schedules_brand FOREIGN KEY (tenant_id, brand_id) REFERENCES headgate.brands (tenant_id, brand_id);

-- A removal looks for the schedules of one brand.
CREATE INDEX schedules_brand ON headgate.schedules (tenant_id, brand_id) WHERE brand_id IS NOT NULL;

-- The tenants that a selection selects, and whether each lacks a brand that a template is
-- limited to. Such a tenant has no schedule of the template before it has the brand. NULL is
-- a template of all brands, which nobody lacks.
CREATE FUNCTION headgate.selected_of_brand(p_selection headgate.selection, p_brand int) RETURNS TABLE (tenant_id uuid, slug text, lacks_brand boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT x.tenant_id, x.slug, p_brand IS NOT NULL AND NOT EXISTS (SELECT FROM headgate.brands b WHERE b.tenant_id = x.tenant_id AND b.brand_id = p_brand)
    FROM headgate.selected(p_selection) x;
END;

-- As in 0070, of a template that is limited to a brand the tenants that have it.
CREATE OR REPLACE FUNCTION headgate.selections(p_fleets uuid[], p_tenants uuid[]) RETURNS TABLE (fleet_id uuid, tenant_id uuid)
LANGUAGE plpgsql STABLE ROWS 20 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenants IS NULL THEN
        RETURN QUERY
        SELECT f.id, x.tenant_id FROM headgate.fleets f CROSS JOIN LATERAL headgate.selected_of_brand(f.selection, f.brand_id) x
        WHERE (p_fleets IS NULL OR f.id = ANY (p_fleets)) AND NOT x.lacks_brand;
        RETURN;
    END IF;
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT d.id, d.slug, d.document FROM unnest(p_tenants) x (id) JOIN headgate.tenant_documents d ON d.id = x.id
        WHERE d.status NOT IN ('archived', 'removed'))
    SELECT f.id, d.id
    FROM headgate.fleets f CROSS JOIN given d
    WHERE (p_fleets IS NULL OR f.id = ANY (p_fleets))
      AND ((f.selection).tenants IS NULL OR d.slug = ANY ((f.selection).tenants))
      AND ((f.selection).path IS NULL OR d.document @@ (f.selection).path)
      AND (f.brand_id IS NULL OR EXISTS (SELECT FROM headgate.brands b WHERE b.tenant_id = d.id AND b.brand_id = f.brand_id));
END $$;

-- As in 0074, without the tenants that lack the template's brand.
CREATE OR REPLACE FUNCTION headgate.schedule_drift(p_file text)
RETURNS TABLE (name text, slug text, schedule_id uuid, state text, note text, changed jsonb)
LANGUAGE sql STABLE SET enable_mergejoin = off AS $$
    SELECT f.name, t.slug, s.id,
        CASE WHEN s.id IS NULL THEN 'missing' WHEN s.fleet_id IS DISTINCT FROM f.id THEN 'own' WHEN s.error <> '' THEN 'error' WHEN s.paused THEN 'paused' ELSE 'changed' END,
        CASE WHEN s.error <> '' THEN s.error WHEN s.paused THEN s.paused_note ELSE '' END,
        CASE WHEN s.fleet_id = f.id THEN headgate.changed_fields((SELECT jsonb_object_agg(key, value) FROM jsonb_each(h.whole) WHERE w.whole ? key), w.whole) END
    FROM headgate.fleets f
    CROSS JOIN LATERAL (SELECT to_jsonb(f) - ARRAY['id', 'name', 'version', 'created_at', 'managed_by', 'selector', 'selection'] AS own) c
    CROSS JOIN LATERAL headgate.selected_of_brand(f.selection, f.brand_id) AS x
    JOIN headgate.tenants t ON t.id = x.tenant_id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    LEFT JOIN headgate.schedules s ON s.tenant_id = t.id AND s.name = f.name
    CROSS JOIN LATERAL (SELECT to_jsonb(s) AS whole) h
    CROSS JOIN LATERAL (SELECT c.own || jsonb_build_object('cron', coalesce(o.cron, f.cron), 'zone', coalesce(o.zone, nullif(f.zone, ''), t.timezone), 'args', coalesce(o.args, f.args)) AS whole) w
    WHERE f.managed_by = p_file AND NOT x.lacks_brand
      AND (s.id IS NULL OR s.fleet_id IS DISTINCT FROM f.id OR s.error <> '' OR s.paused
        OR (s.kind, s.args::text, s.queue, s.priority, s.max_attempts, s.cron, s.zone, s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences,
            s.calendars, s.windows, s.spread, s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance, s.brand_id)
        IS DISTINCT FROM
           (f.kind, coalesce(o.args, f.args)::text, f.queue, f.priority, f.max_attempts, coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences,
            f.calendars, f.windows, f.spread, f.overlap, f.buffer_max, f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, f.brand_id))
$$;

-- A tenant that gets a brand gets the schedules that are limited to it. The tenant is noted
-- whether or not a template has the brand, because a template that another transaction is
-- making is not seen. As in note_selector_changes no tenant is noted twice.
CREATE FUNCTION headgate.note_brands() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids   uuid[] := ARRAY(SELECT DISTINCT b.tenant_id FROM fresh_rows b);
    noted uuid[] := '{}';
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN -- with an older snapshot a row that is gone is an error
        noted := ARRAY(SELECT c.tenant_id FROM headgate.selector_changes c WHERE c.tenant_id = ANY (ids) FOR KEY SHARE SKIP LOCKED);
    END IF;
    INSERT INTO headgate.selector_changes (tenant_id)
    SELECT x.id FROM unnest(ids) AS x (id) WHERE NOT EXISTS (SELECT FROM unnest(noted) AS y (id) WHERE y.id = x.id);
    RETURN NULL;
END $$;

CREATE TRIGGER note_brands AFTER INSERT ON headgate.brands REFERENCING NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.note_brands();

-- A key's request is of a brand, or of all (NULL).
ALTER TABLE headgate.idempotency_keys ADD COLUMN brand_id int;

-- As in 0050, and differs may be 'brand'.
DROP FUNCTION headgate.take_key(uuid, text, text, jsonb, uuid);
CREATE FUNCTION headgate.take_key(p_scope uuid, p_key text, p_kind text, p_args jsonb, p_uid uuid, p_brand int DEFAULT NULL, OUT job_uid uuid, OUT differs text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_hash   bytea := headgate.request_hash(p_scope, p_key, p_kind, p_args::text);
    v_fields jsonb := (SELECT CASE WHEN count(*) BETWEEN 1 AND 64 THEN jsonb_object_agg(e.key, left(encode(headgate.request_hash(p_scope, p_key, e.key, e.value::text), 'hex'), 16)) ELSE '{}' END
                       FROM jsonb_each(p_args) e);
    v_owner  headgate.idempotency_keys;
BEGIN
    INSERT INTO headgate.idempotency_keys AS k (scope, key, kind, args_hash, fields, job_uid, brand_id)
    VALUES (p_scope, p_key, p_kind, v_hash, v_fields, p_uid, p_brand)
    ON CONFLICT (scope, key) DO UPDATE
    SET kind = excluded.kind, args_hash = excluded.args_hash, fields = excluded.fields, job_uid = excluded.job_uid, brand_id = excluded.brand_id, created_at = now()
    WHERE k.created_at < now() - headgate.idempotency_retention() AND NOT headgate.is_unfinished(k.job_uid)
    RETURNING k.* INTO v_owner;
    IF NOT FOUND THEN
        SELECT k.* INTO STRICT v_owner FROM headgate.idempotency_keys k WHERE k.scope = p_scope AND k.key = p_key;
    END IF;
    job_uid := v_owner.job_uid;
    differs := CASE
        WHEN v_owner.kind <> p_kind THEN 'kind'
        WHEN v_owner.brand_id IS DISTINCT FROM p_brand THEN 'brand'
        WHEN v_owner.args_hash = v_hash THEN ''
        ELSE coalesce((
            SELECT 'args.' || name
            FROM jsonb_each_text(v_fields) a (name, hash) FULL JOIN jsonb_each_text(v_owner.fields) b (name, hash) USING (name)
            WHERE a.hash IS DISTINCT FROM b.hash ORDER BY name COLLATE "C" LIMIT 1), 'args')
    END;
END $$;

-- As in 0074, and the key stands for the brand too.
CREATE OR REPLACE FUNCTION headgate.enqueue(kind text, tenant text, args jsonb DEFAULT '{}', run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, idempotency_key text DEFAULT NULL, brand int DEFAULT NULL)
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
        SELECT k.* INTO v_taken FROM headgate.take_key(v_tenant.id, p_key, p_kind, p_args, v_uid, enqueue.brand) k;
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
