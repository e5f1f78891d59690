-- Schedules for a selector of tenants: a fleet. Each selected tenant has a row of
-- its own in headgate.schedules, in its own time zone, made here in the transaction
-- that adds or changes the tenant. A row that is fresh is not fired but computed: the
-- scheduler, which knows calendars, takes it as due.

CREATE TABLE headgate.fleets (
    id              uuid PRIMARY KEY,
    name            text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    kind            text NOT NULL,
    args            jsonb NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL,
    max_attempts    smallint NOT NULL,
    cron            text NOT NULL,
    zone            text NOT NULL DEFAULT '',   -- '': each tenant's own
    gap             text NOT NULL,
    repeat          text NOT NULL,
    start_at        timestamptz,
    end_at          timestamptz,
    max_occurrences int NOT NULL,
    calendars       text[] NOT NULL,
    windows         text[] NOT NULL,
    spread          int NOT NULL,
    overlap         text NOT NULL,
    buffer_max      int NOT NULL,
    catch_up        text NOT NULL,
    catch_up_max    int NOT NULL,
    catch_up_window int NOT NULL,
    pause_after     int NOT NULL,
    maintenance     boolean NOT NULL DEFAULT false, -- only in maintenance windows
    version         int NOT NULL DEFAULT 1,
    managed_by      text NOT NULL DEFAULT '',   -- the file that it comes from
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- A selector: a tenant is selected that equals all of its terms.
CREATE TABLE headgate.fleet_terms (
    fleet_id uuid NOT NULL REFERENCES headgate.fleets ON DELETE CASCADE,
    field    text NOT NULL CHECK (field IN ('tenant', 'plan', 'status', 'region', 'label', 'feature')),
    key      text NOT NULL DEFAULT '',          -- of label and feature
    value    text NOT NULL,
    PRIMARY KEY (fleet_id, field, key)
);

-- What is different for one tenant. NULL: nothing.
CREATE TABLE headgate.fleet_overrides (
    fleet_id  uuid NOT NULL REFERENCES headgate.fleets ON DELETE CASCADE,
    tenant_id uuid NOT NULL REFERENCES headgate.tenants ON DELETE CASCADE,
    cron      text,
    zone      text,
    args      jsonb,
    PRIMARY KEY (fleet_id, tenant_id)
);

ALTER TABLE headgate.schedules
    ADD COLUMN fleet_id      uuid REFERENCES headgate.fleets ON DELETE CASCADE,
    ADD COLUMN fleet_version int,
    ADD COLUMN fresh         boolean NOT NULL DEFAULT false,
    ADD COLUMN maintenance   boolean NOT NULL DEFAULT false;

CREATE INDEX schedules_fleet ON headgate.schedules (fleet_id, tenant_id) WHERE fleet_id IS NOT NULL;

-- The tenants that a fleet selects, of these, or of all (NULL). It is the one door
-- to selectors: whatever they become, it is asked. Region and features are the
-- tenant's columns of these names, as soon as the catalog has them, else its labels
-- region and feature.NAME.
CREATE FUNCTION headgate.selected_tenants(p_fleet uuid, p_tenants uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT t.id
    FROM headgate.tenants t
    WHERE (p_tenants IS NULL OR t.id = ANY (p_tenants)) AND t.status <> 'archived'
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

-- Makes the rows of fleets fit what they select: of one fleet or of all, for these
-- tenants or for all (NULL). A tenant's own schedule of the same name stays its own.
CREATE FUNCTION headgate.sync_fleets(p_fleet uuid, p_tenants uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    f   headgate.fleets;
    at  timestamptz := clock_timestamp();
BEGIN
    FOR f IN SELECT * FROM headgate.fleets WHERE p_fleet IS NULL OR id = p_fleet ORDER BY id LOOP
        DELETE FROM headgate.schedules s
        WHERE s.fleet_id = f.id AND (p_tenants IS NULL OR s.tenant_id = ANY (p_tenants))
          AND s.tenant_id NOT IN (SELECT headgate.selected_tenants(f.id, p_tenants));

        UPDATE headgate.schedules s
        SET kind = f.kind, args = coalesce(o.args, f.args), queue = f.queue, priority = f.priority, max_attempts = f.max_attempts,
            cron = coalesce(o.cron, f.cron), zone = coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            gap = f.gap, repeat = f.repeat, start_at = f.start_at, end_at = f.end_at, max_occurrences = f.max_occurrences,
            calendars = f.calendars, windows = f.windows, spread = f.spread, overlap = f.overlap, buffer_max = f.buffer_max,
            catch_up = f.catch_up, catch_up_max = f.catch_up_max, catch_up_window = f.catch_up_window, pause_after = f.pause_after, maintenance = f.maintenance,
            version = s.version + 1, fleet_version = f.version, error = '', fresh = true,
            next_run_at = CASE WHEN s.paused THEN s.paused_until ELSE at END
        FROM headgate.tenants t
        LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
        WHERE s.fleet_id = f.id AND t.id = s.tenant_id AND (p_tenants IS NULL OR t.id = ANY (p_tenants))
          AND (s.fleet_version <> f.version OR s.zone <> coalesce(o.zone, nullif(f.zone, ''), t.timezone));

        INSERT INTO headgate.schedules (id, tenant_id, fleet_id, fleet_version, name, kind, args, queue, priority, max_attempts, cron, zone,
            gap, repeat, start_at, end_at, max_occurrences, calendars, windows, spread, overlap, buffer_max, catch_up, catch_up_max, catch_up_window, pause_after, maintenance,
            fresh, answered_at, next_run_at)
        SELECT gen_random_uuid(), t.id, f.id, f.version, f.name, f.kind, coalesce(o.args, f.args), f.queue, f.priority, f.max_attempts,
            coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences, f.calendars, f.windows, f.spread, f.overlap, f.buffer_max,
            f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance, true, at, at
        FROM headgate.selected_tenants(f.id, p_tenants) AS x (id)
        JOIN headgate.tenants t ON t.id = x.id
        JOIN headgate.databases d ON d.id = t.database_id
        LEFT JOIN headgate.fleet_overrides o ON o.fleet_id = f.id AND o.tenant_id = t.id
        WHERE NOT EXISTS (SELECT FROM headgate.schedules s WHERE s.tenant_id = t.id AND s.name = f.name)
        ORDER BY d.server_id, t.id      -- neighbours on a server get neighbouring places in spreads
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

CREATE FUNCTION headgate.fleets_follow() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
BEGIN
    IF NOT EXISTS (SELECT FROM headgate.fleets) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        ids := ARRAY(SELECT id FROM fresh_rows);
    ELSE
        -- Everything that a selector can ask for, now or later; a move is nothing of it.
        ids := ARRAY(
            SELECT n.id FROM fresh_rows n JOIN old_rows o ON o.id = n.id
            WHERE to_jsonb(n) - ARRAY['generation', 'database_id', 'database_kind', 'name']
                  <> to_jsonb(o) - ARRAY['generation', 'database_id', 'database_kind', 'name']);
    END IF;
    IF cardinality(ids) > 0 THEN
        PERFORM headgate.sync_fleets(NULL, ids);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER fleets_follow_insert AFTER INSERT ON headgate.tenants REFERENCING NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.fleets_follow();
CREATE TRIGGER fleets_follow_update AFTER UPDATE ON headgate.tenants REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.fleets_follow();
