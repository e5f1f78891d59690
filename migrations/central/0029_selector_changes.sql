-- Who has the schedules of which selectors is decided by one writer at a time, under
-- one lock: the scheduler, a while after a tenant has changed, and whoever changes a
-- selector. A transaction that changes tenants only notes which: the transaction cannot
-- see a selector that another one has not committed yet, nor that one its tenants.

-- The tenants that have changed since. A row is for one transaction and tenant, and
-- its commit makes it visible, so nothing that commits late is passed over.
CREATE TABLE headgate.selector_changes (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    tenant_id  uuid NOT NULL,                               -- it may be gone
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz,                                 -- of what failed
    error      text NOT NULL DEFAULT ''
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE INDEX selector_changes_tenant ON headgate.selector_changes (tenant_id);

DROP TRIGGER fleets_follow_insert ON headgate.tenants;
DROP TRIGGER fleets_follow_update ON headgate.tenants;
DROP FUNCTION headgate.fleets_follow();

-- A tenant that has a row already gets no second one, so that the table stays as
-- small as the catalog while no scheduler runs. That row is locked until this transaction
-- ends: the scheduler takes no locked row, and so does not evaluate what is not committed.
-- Two such locks do not conflict. A row that is being taken counts as none.
CREATE FUNCTION headgate.note_selector_changes() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ids   uuid[];
    noted uuid[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO headgate.selector_changes (tenant_id) SELECT id FROM fresh_rows;
        RETURN NULL;
    END IF;
    -- Everything that a selector can ask for, now or later; a move is nothing of it.
    ids := ARRAY(
        SELECT n.id FROM fresh_rows n JOIN old_rows o ON o.id = n.id
        WHERE to_jsonb(n) - ARRAY['generation', 'database_id', 'database_kind', 'name']
              <> to_jsonb(o) - ARRAY['generation', 'database_id', 'database_kind', 'name']);
    IF cardinality(ids) = 0 THEN
        RETURN NULL;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN -- with an older snapshot a row that is gone is an error
        noted := ARRAY(SELECT c.tenant_id FROM headgate.selector_changes c WHERE c.tenant_id = ANY (ids) FOR KEY SHARE SKIP LOCKED);
    END IF;
    INSERT INTO headgate.selector_changes (tenant_id)
    SELECT x.id FROM unnest(ids) AS x (id) WHERE NOT EXISTS (SELECT FROM unnest(noted) AS y (id) WHERE y.id = x.id);
    RETURN NULL;
END $$;

CREATE TRIGGER note_selector_changes_insert AFTER INSERT ON headgate.tenants REFERENCING NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.note_selector_changes();
CREATE TRIGGER note_selector_changes_update AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.note_selector_changes();

-- The tenants that a fleet selects, of these. It is the one door to selectors:
-- whatever they become, it is asked. Region and features are the tenant's columns of
-- these names, as soon as the catalog has them, else its labels region and feature.NAME.
-- Of given tenants only their own rows are read; of all (NULL), the table.
CREATE OR REPLACE FUNCTION headgate.selected_tenants(p_fleet uuid, p_tenants uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT t.id
    FROM (
        SELECT a.* FROM headgate.tenants a WHERE p_tenants IS NULL
        UNION ALL
        SELECT a.* FROM unnest(p_tenants) AS x (id) JOIN headgate.tenants a ON a.id = x.id) t
    WHERE t.status <> 'archived'
      AND NOT EXISTS (
        SELECT FROM headgate.fleet_terms f
        WHERE f.fleet_id = p_fleet
          AND f.value IS DISTINCT FROM CASE f.field
                WHEN 'tenant' THEN t.slug
                WHEN 'plan' THEN t.plan
                WHEN 'status' THEN t.status
                WHEN 'region' THEN coalesce(to_jsonb(t)->>'region', t.labels->>'region')
                WHEN 'label' THEN t.labels->>f.key
                WHEN 'feature' THEN coalesce(to_jsonb(t)->'features'->>f.key, t.labels->>('feature.' || f.key))
              END)
$$;

DROP FUNCTION headgate.sync_fleets(uuid, uuid[]);

-- Makes the rows of fleets fit what they select: of one fleet or of all (NULL), for
-- these tenants or for all (NULL). It returns how many rows were not as they should be.
-- A tenant's own schedule of the same name stays its own. The caller holds the lock of
-- selectors (orchestrator/plan.go), taken by a statement before this one. The plans are
-- made for the tenants at hand, because one is as usual as all.
CREATE FUNCTION headgate.sync_fleets(p_fleet uuid, p_tenants uuid[]) RETURNS int
LANGUAGE plpgsql SET plan_cache_mode = 'force_custom_plan' AS $$
DECLARE
    at    timestamptz := clock_timestamp();
    n     int;
    wrong int;
BEGIN
    IF p_tenants IS NULL THEN
        p_tenants := ARRAY(SELECT id FROM headgate.tenants);
    END IF;

    DELETE FROM headgate.schedules s
    WHERE s.fleet_id IS NOT NULL AND (p_fleet IS NULL OR s.fleet_id = p_fleet) AND s.tenant_id = ANY (p_tenants)
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
    WHERE s.fleet_id = f.id AND t.id = s.tenant_id AND (p_fleet IS NULL OR f.id = p_fleet) AND s.tenant_id = ANY (p_tenants)
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
    WHERE (p_fleet IS NULL OR f.id = p_fleet)
      AND NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.tenant_id = t.id AND s.name = f.name)
    ORDER BY f.id, d.server_id, t.id      -- neighbours on a server get neighbouring places in spreads
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN wrong + n;
END $$;
