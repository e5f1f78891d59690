-- Files of schedules: what a file wants is compared with what the tables hold, in the
-- tables' own types, and by whole rows, so that no notation and no forgotten field
-- tells two things apart that are one, or takes two for one.

-- The file that a calendar comes from, as of fleets.
ALTER TABLE headgate.calendars ADD COLUMN managed_by text NOT NULL DEFAULT '';

-- What a selector's term asks of a tenant. Region and features are the tenant's columns
-- of these names, as soon as the catalog has them, else its labels region and
-- feature.NAME.
CREATE FUNCTION headgate.tenant_field(t headgate.tenants, p_field text, p_key text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE p_field
        WHEN 'tenant' THEN t.slug
        WHEN 'plan' THEN t.plan
        WHEN 'status' THEN t.status
        WHEN 'region' THEN coalesce(to_jsonb(t)->>'region', t.labels->>'region')
        WHEN 'label' THEN t.labels->>p_key
        WHEN 'feature' THEN coalesce(to_jsonb(t)->'features'->>p_key, t.labels->>('feature.' || p_key))
    END
$$;

-- The tenants that a fleet selects, of these. It is the one door to the selectors that
-- are stored. Of given tenants only their own rows are read; of all (NULL), the table,
-- or where the selector names a tenant, that one's row.
CREATE OR REPLACE FUNCTION headgate.selected_tenants(p_fleet uuid, p_tenants uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT t.id
    FROM (
        SELECT a.id, a.status, a AS whole
        FROM headgate.tenants a
        WHERE p_tenants IS NULL AND NOT EXISTS (SELECT FROM headgate.fleet_terms n WHERE n.fleet_id = p_fleet AND n.field = 'tenant')
        UNION ALL
        SELECT a.id, a.status, a
        FROM headgate.fleet_terms n JOIN headgate.tenants a ON a.slug = n.value
        WHERE p_tenants IS NULL AND n.fleet_id = p_fleet AND n.field = 'tenant'
        UNION ALL
        SELECT a.id, a.status, a FROM unnest(p_tenants) AS x (id) JOIN headgate.tenants a ON a.id = x.id) t
    WHERE t.status <> 'archived'
      AND NOT EXISTS (
        SELECT FROM headgate.fleet_terms f
        WHERE f.fleet_id = p_fleet AND f.value IS DISTINCT FROM headgate.tenant_field(t.whole, f.field, f.key))
$$;

-- The tenants that a selector would select which is not stored: an array of {field, key,
-- value}.
CREATE FUNCTION headgate.matching_tenants(p_terms jsonb) RETURNS TABLE (id uuid, slug text)
LANGUAGE sql STABLE AS $$
    SELECT t.id, t.slug
    FROM (
        SELECT a.id, a.slug, a.status, a AS whole
        FROM headgate.tenants a
        WHERE NOT jsonb_path_exists(p_terms, '$[*] ? (@.field == "tenant")')
        UNION ALL
        SELECT a.id, a.slug, a.status, a
        FROM jsonb_to_recordset(p_terms) AS n (field text, value text) JOIN headgate.tenants a ON a.slug = n.value
        WHERE n.field = 'tenant') t
    WHERE t.status <> 'archived'
      AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(p_terms) AS f (field text, key text, value text)
        WHERE f.value IS DISTINCT FROM headgate.tenant_field(t.whole, f.field, f.key))
$$;

-- Makes the rows of fleets fit what they select: of these fleets or of all (NULL), for
-- these tenants or for all (NULL). It returns how many rows were not as they should be.
-- A tenant's own schedule of the same name stays its own. The caller holds the lock of
-- selectors (orchestrator/plan.go), taken by a statement before this one. The plans are
-- made for the tenants at hand, because one is as usual as all.
CREATE FUNCTION headgate.sync_schedules(p_fleets uuid[], p_tenants uuid[]) RETURNS int
LANGUAGE plpgsql SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    at    timestamptz := clock_timestamp();
    n     int;
    wrong int;
BEGIN
    DELETE FROM headgate.schedules s
    WHERE s.fleet_id IS NOT NULL AND (p_fleets IS NULL OR s.fleet_id = ANY (p_fleets)) AND (p_tenants IS NULL OR s.tenant_id = ANY (p_tenants))
      AND NOT EXISTS (SELECT FROM headgate.selected_tenants(s.fleet_id, ARRAY[s.tenant_id]));
    GET DIAGNOSTICS wrong = ROW_COUNT;

    UPDATE headgate.schedules s
    SET kind = f.kind, args = coalesce(o.args, f.args), queue = f.queue, priority = f.priority, max_attempts = f.max_attempts,
        cron = coalesce(o.cron, f.cron), zone = coalesce(o.zone, nullif(f.zone, ''), t.timezone),
        gap = f.gap, repeat = f.repeat, start_at = f.start_at, end_at = f.end_at, max_occurrences = f.max_occurrences,
        calendars = f.calendars, windows = f.windows, spread = f.spread, overlap = f.overlap, buffer_max = f.buffer_max,
        catch_up = f.catch_up, catch_up_max = f.catch_up_max, catch_up_window = f.catch_up_window, pause_after = f.pause_after, maintenance = f.maintenance,
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
        gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread, overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, maintenance,
        fresh, answered_at, next_run_at)
    SELECT gen_random_uuid(), t.id, f.id, f.version, f.name, f.kind, coalesce(o.args, f.args), f.queue, f.priority, f.max_attempts,
        coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
        f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences, f.calendars, f.windows, f.spread, f.overlap, f.buffer_max,
        f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, true, at, at
    FROM headgate.fleets f
    CROSS JOIN LATERAL headgate.selected_tenants(f.id, p_tenants) AS x (id)
    JOIN headgate.tenants t ON t.id = x.id
    JOIN headgate.databases d ON d.id = t.database_id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    WHERE (p_fleets IS NULL OR f.id = ANY (p_fleets))
      AND NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.tenant_id = t.id AND s.name = f.name)
    ORDER BY f.id, d.server_id, t.id      -- neighbours on a server get neighbouring places in spreads
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN wrong + n;
END $$;

-- sync_schedules for one fleet or for all (NULL).
CREATE OR REPLACE FUNCTION headgate.sync_fleets(p_fleet uuid, p_tenants uuid[]) RETURNS int
LANGUAGE sql AS $$
    SELECT headgate.sync_schedules(CASE WHEN p_fleet IS NOT NULL THEN ARRAY[p_fleet] END, p_tenants)
$$;

-- The fields of two rows that differ, as [{field, before, after}]. The texts are
-- compared that Postgres makes of the values, so 1 and 1.0 are two: a handler may take
-- the one and refuse the other.
CREATE FUNCTION headgate.changed_fields(p_before jsonb, p_after jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('field', field, 'before', before, 'after', after) ORDER BY field COLLATE "C"), '[]')
    FROM (SELECT coalesce(b.key, a.key), b.value, a.value FROM jsonb_each(p_before) b FULL JOIN jsonb_each(p_after) a ON a.key = b.key) AS x (field, before, after)
    WHERE before::text IS DISTINCT FROM after::text
$$;

-- A row of fleets as a file can ask for it: its columns, whatever they are, without what
-- the database gives it; its terms; and each override.
CREATE FUNCTION headgate.fleet_document(p_row jsonb, p_terms jsonb, p_overrides jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT (p_row - ARRAY['id', 'version', 'created_at']) || jsonb_build_object('select', p_terms)
        || coalesce((SELECT jsonb_object_agg('override for ' || key, value) FROM jsonb_each(p_overrides)), '{}')
$$;

CREATE FUNCTION headgate.stored_terms(p_fleet uuid) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('field', field, 'key', key, 'value', value) ORDER BY field COLLATE "C", key COLLATE "C"), '[]')
    FROM headgate.fleet_terms WHERE fleet_id = p_fleet
$$;

-- By the tenants' slugs.
CREATE FUNCTION headgate.stored_overrides(p_fleet uuid) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_object_agg(t.slug, jsonb_build_object('cron', o.cron, 'zone', o.zone, 'args', o.args)), '{}')
    FROM headgate.fleet_overrides o JOIN headgate.tenants t ON t.id = o.tenant_id WHERE o.fleet_id = p_fleet
$$;

-- What of the schedules of a file's fleets is otherwise than the fleets say: rows that
-- are missing (schedule_id is NULL), a tenant's own in their place, in error, paused, or
-- different in fields. Those are all columns of fleets that a file can ask for: the fields
-- that are named come from the rows themselves, the quick comparison has a list, and
-- TestDriftSeesEveryField holds the list against the tables. A merge join
-- by the name alone compared each tenant's row with every other's: 26 s instead of 1 s of
-- 20,000 rows beside 20,000 fleets that nobody had analysed yet.
CREATE FUNCTION headgate.schedule_drift(p_file text)
RETURNS TABLE (name text, slug text, schedule_id uuid, state text, note text, changed jsonb)
LANGUAGE sql STABLE SET enable_mergejoin = off AS $$
    SELECT f.name, t.slug, s.id,
        CASE WHEN s.id IS NULL THEN 'missing' WHEN s.fleet_id IS DISTINCT FROM f.id THEN 'own' WHEN s.error <> '' THEN 'error' WHEN s.paused THEN 'paused' ELSE 'changed' END,
        CASE WHEN s.error <> '' THEN s.error WHEN s.paused THEN s.paused_note ELSE '' END,
        CASE WHEN s.fleet_id = f.id THEN headgate.changed_fields((SELECT jsonb_object_agg(key, value) FROM jsonb_each(h.whole) WHERE w.whole ? key), w.whole) END
    FROM headgate.fleets f
    CROSS JOIN LATERAL (SELECT to_jsonb(f) - ARRAY['id', 'name', 'version', 'created_at', 'managed_by'] AS own) c
    CROSS JOIN LATERAL headgate.selected_tenants(f.id, NULL) AS x (id)
    JOIN headgate.tenants t ON t.id = x.id
    LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
    LEFT JOIN headgate.schedules s ON s.tenant_id = t.id AND s.name = f.name
    CROSS JOIN LATERAL (SELECT to_jsonb(s) AS whole) h
    CROSS JOIN LATERAL (SELECT c.own || jsonb_build_object('cron', coalesce(o.cron, f.cron), 'zone', coalesce(o.zone, nullif(f.zone, ''), t.timezone), 'args', coalesce(o.args, f.args)) AS whole) w
    WHERE f.managed_by = p_file
      AND (s.id IS NULL OR s.fleet_id IS DISTINCT FROM f.id OR s.error <> '' OR s.paused
        OR (s.kind, s.args::text, s.queue, s.priority, s.max_attempts, s.cron, s.zone, s.gap, s.repeat, s.start_at, s.end_at, s.max_occurrences,
            s.calendars, s.windows, s.spread, s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance)
        IS DISTINCT FROM
           (f.kind, coalesce(o.args, f.args)::text, f.queue, f.priority, f.max_attempts, coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences,
            f.calendars, f.windows, f.spread, f.overlap, f.buffer_max, f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance))
$$;
