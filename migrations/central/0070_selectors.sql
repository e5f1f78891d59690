-- serves: 70
-- Selectors: expressions over what is known of a tenant, as package orchestrator/selector
-- reads them. A row that selects has the expression's text, for people, and its selection,
-- which Postgres evaluates.

-- A compiled expression. path decides, over a document of headgate.tenant_documents; NULL
-- selects all. The lists only narrow down which rows are read: a selected tenant has one of
-- these slugs, plans, databases. NULL: the expression fixes none.
CREATE TYPE headgate.selection AS (
    path      jsonpath,
    tenants   text[],
    plans     text[],
    databases text[]
);

-- The features of a tenant without any of its own, by plan. The defaults are computed once
-- for a query.
CREATE VIEW headgate.plan_features AS
SELECT p.name, headgate.feature_values((SELECT d.values FROM headgate.feature_defaults d), p.features, '{}') AS features FROM headgate.plans p;

-- What a selector can ask of a tenant, as one document. What the tenant does not have is
-- null in it, or not in it. It is a view and no function of a tenant: 100,000 documents take
-- 1 s instead of 14 s, because plans, databases and servers are joined.
CREATE VIEW headgate.tenant_documents AS
SELECT t.id, t.slug, t.status, t.plan, d.name AS database,
    jsonb_build_object('tenant', t.slug, 'plan', t.plan, 'status', t.status, 'timezone', t.timezone,
        'database', d.name, 'server', s.name, 'region', s.region,
        'label', t.labels, 'feature', p.features || t.features) AS document
FROM headgate.tenants t
JOIN headgate.plan_features p ON p.name = t.plan
LEFT JOIN headgate.databases d ON d.id = t.database_id
LEFT JOIN headgate.servers s ON s.id = d.server_id;

-- The tenants that a selection selects, of all. Nothing that is stored selects tenants that
-- are archived or removed.
CREATE FUNCTION headgate.selected(p_selection headgate.selection) RETURNS TABLE (tenant_id uuid, slug text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT d.id, d.slug
    FROM (
        SELECT a.id, a.slug, a.status, a.document FROM headgate.tenant_documents a
        WHERE (p_selection).tenants IS NULL AND (p_selection).plans IS NULL AND (p_selection).databases IS NULL
        UNION ALL
        SELECT a.id, a.slug, a.status, a.document FROM unnest((p_selection).tenants) n (name) JOIN headgate.tenant_documents a ON a.slug = n.name
        UNION ALL
        SELECT a.id, a.slug, a.status, a.document FROM unnest((p_selection).plans) n (name) JOIN headgate.tenant_documents a ON a.plan = n.name
        WHERE (p_selection).tenants IS NULL
        UNION ALL
        SELECT a.id, a.slug, a.status, a.document FROM unnest((p_selection).databases) n (name) JOIN headgate.tenant_documents a ON a.database = n.name
        WHERE (p_selection).tenants IS NULL AND (p_selection).plans IS NULL) d
    WHERE d.status NOT IN ('archived', 'removed') AND ((p_selection).path IS NULL OR d.document @@ (p_selection).path);
END;

ALTER TABLE headgate.fleets
    ADD COLUMN selector  text NOT NULL CHECK (octet_length(selector) <= 4000),
    ADD COLUMN selection headgate.selection NOT NULL;

-- Which of these fleets, or of all (NULL), select which of these tenants, or of all (NULL).
-- Of given tenants only their own rows are read, and each document is made once, for all
-- fleets. With 1,000 rows, Postgres's own guess, the callers would scan the tenants for one.
CREATE FUNCTION headgate.selections(p_fleets uuid[], p_tenants uuid[]) RETURNS TABLE (fleet_id uuid, tenant_id uuid)
LANGUAGE plpgsql STABLE ROWS 20 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenants IS NULL THEN
        RETURN QUERY
        SELECT f.id, x.tenant_id FROM headgate.fleets f CROSS JOIN LATERAL headgate.selected(f.selection) x
        WHERE p_fleets IS NULL OR f.id = ANY (p_fleets);
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
      AND ((f.selection).path IS NULL OR d.document @@ (f.selection).path);
END $$;

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
            s.calendars, s.windows, s.spread, s.overlap, s.buffer_max, s.catch_up, s.catch_up_max, s.catch_up_window, s.pause_after, s.maintenance)
        IS DISTINCT FROM
           (f.kind, coalesce(o.args, f.args)::text, f.queue, f.priority, f.max_attempts, coalesce(o.cron, f.cron), coalesce(o.zone, nullif(f.zone, ''), t.timezone),
            f.gap, f.repeat, f.start_at, f.end_at, f.max_occurrences,
            f.calendars, f.windows, f.spread, f.overlap, f.buffer_max, f.catch_up, f.catch_up_max, f.catch_up_window, f.pause_after, f.maintenance))
$$;

DROP FUNCTION headgate.fleet_document(jsonb, jsonb, jsonb);
DROP FUNCTION headgate.stored_terms(uuid);
DROP FUNCTION headgate.matching_tenants(jsonb);
DROP FUNCTION headgate.selected_tenants(uuid, uuid[]);
DROP TABLE headgate.fleet_terms;

-- A row of fleets as a file can ask for it: its columns, whatever they are, without what
-- the database gives it and without what follows from the selector; and each override.
CREATE FUNCTION headgate.fleet_document(p_row jsonb, p_overrides jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT (p_row - ARRAY['id', 'version', 'created_at', 'selection'])
        || coalesce((SELECT jsonb_object_agg('override for ' || key, value) FROM jsonb_each(p_overrides)), '{}')
$$;

-- What many tenants have in common has changed: a plan's features, a feature's default, a
-- database's name or server, a server's name or region. A row is noted instead of one for
-- each tenant, so that the transaction that changes it writes one row however many tenants
-- there are. Who follows it finds its tenants, those too that came to it in a transaction
-- that this one could not see. selector_changes has the tenants then.
CREATE TABLE headgate.selector_scopes (
    id   bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    what text NOT NULL CHECK (what IN ('plan', 'feature', 'database', 'server')),
    key  text NOT NULL,                             -- a name; of databases and servers their id
    at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The tenants of the scopes that have changed.
CREATE VIEW headgate.scoped_tenants AS
SELECT s.id, s.at, t.id AS tenant_id FROM headgate.selector_scopes s JOIN headgate.tenants t ON t.plan = s.key WHERE s.what = 'plan'
UNION ALL
SELECT s.id, s.at, t.id FROM headgate.selector_scopes s JOIN headgate.databases d ON d.id::text = s.key JOIN headgate.tenants t ON t.database_id = d.id WHERE s.what = 'database'
UNION ALL
SELECT s.id, s.at, t.id FROM headgate.selector_scopes s JOIN headgate.databases d ON d.server_id::text = s.key JOIN headgate.tenants t ON t.database_id = d.id WHERE s.what = 'server'
UNION ALL
SELECT s.id, s.at, t.id FROM headgate.selector_scopes s JOIN headgate.tenants t ON NOT t.features ? s.key JOIN headgate.plans p ON p.name = t.plan AND NOT p.features ? s.key WHERE s.what = 'feature';

-- As note_selector_changes: what is noted already is held until this transaction ends, and
-- not noted again.
CREATE FUNCTION headgate.note_selector_scope() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_what text := TG_ARGV[0];
    v_row  jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    v_key  text := coalesce(v_row->>TG_ARGV[1], '');
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN -- with an older snapshot a row that is gone is an error
        PERFORM FROM headgate.selector_scopes s WHERE s.what = v_what AND s.key = v_key FOR KEY SHARE SKIP LOCKED;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO headgate.selector_scopes (what, key) VALUES (v_what, v_key);
    RETURN NULL;
END $$;

-- A plan that is new has no tenants. Another name reaches the tenants' own rows, or is
-- refused.
CREATE TRIGGER note_selector_scope AFTER UPDATE ON headgate.plans FOR EACH ROW
    WHEN (OLD.features IS DISTINCT FROM NEW.features) EXECUTE FUNCTION headgate.note_selector_scope('plan', 'name');
CREATE TRIGGER note_selector_scope AFTER UPDATE ON headgate.databases FOR EACH ROW
    WHEN (OLD.name <> NEW.name OR OLD.server_id <> NEW.server_id) EXECUTE FUNCTION headgate.note_selector_scope('database', 'id');
CREATE TRIGGER note_selector_scope AFTER UPDATE ON headgate.servers FOR EACH ROW
    WHEN (OLD.name <> NEW.name OR OLD.region IS DISTINCT FROM NEW.region) EXECUTE FUNCTION headgate.note_selector_scope('server', 'id');
CREATE TRIGGER note_selector_scope_update AFTER UPDATE ON headgate.features FOR EACH ROW
    WHEN (OLD.default_value IS DISTINCT FROM NEW.default_value OR OLD.name <> NEW.name) EXECUTE FUNCTION headgate.note_selector_scope('feature', 'name');
CREATE TRIGGER note_selector_scope_insert AFTER INSERT ON headgate.features FOR EACH ROW
    WHEN (NEW.default_value IS NOT NULL) EXECUTE FUNCTION headgate.note_selector_scope('feature', 'name');
CREATE TRIGGER note_selector_scope_delete AFTER DELETE ON headgate.features FOR EACH ROW
    WHEN (OLD.default_value IS NOT NULL) EXECUTE FUNCTION headgate.note_selector_scope('feature', 'name');

-- Grants select as schedules do.
ALTER TABLE headgate.enqueue_grants
    DROP CONSTRAINT enqueue_grants_pkey,
    DROP COLUMN tenants,
    ADD COLUMN selector  text NOT NULL CHECK (octet_length(selector) <= 2000),
    ADD COLUMN selection headgate.selection NOT NULL,
    ADD PRIMARY KEY (role, kind, selector);

DROP TRIGGER audit_added ON headgate.enqueue_grants;
DROP TRIGGER audit_changed ON headgate.enqueue_grants;
DROP TRIGGER audit_removed ON headgate.enqueue_grants;
SELECT headgate.audit_table('enqueue_grants', 'enqueue grant', 'role,kind,selector', 'role', '', 'granted_at,selection');

DROP FUNCTION headgate.granted_tenants(name, text, boolean);

-- The selections of the grants that cover a kind and that a session may use: those of its
-- login, and of roles whose rights the login has without SET ROLE. A grant for a beginning
-- covers neither the built-in kinds, unless it begins with headgate. itself, nor kinds that
-- work as a database's owner: those are named in full.
CREATE FUNCTION headgate.granted_tenants(p_login name, p_kind text, p_owner boolean) RETURNS SETOF headgate.selection
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT (g.selection).*
    FROM headgate.enqueue_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE (g.kind = p_kind
           OR NOT p_owner AND g.kind = ANY (ARRAY(SELECT left(p_kind, n) || '*' FROM generate_series(CASE WHEN starts_with(p_kind, 'headgate.') THEN 9 ELSE 0 END, length(p_kind)) n)))
      AND pg_has_role(p_login, r.oid, 'USAGE');
END $$;

-- The function is that of 0058, but for the grants' selections.
CREATE OR REPLACE FUNCTION headgate.enqueue(kind text, tenant text, args jsonb DEFAULT '{}', run_at timestamptz DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, idempotency_key text DEFAULT NULL)
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
        PERFORM headgate.refuse('HG102', 'tenant', format('tenant %s is %s and takes no work', headgate.quoted(v_tenant.slug), v_tenant.status), 'headgate tenant list shows its status.');
    END IF;

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
    PERFORM headgate.insert_job(p_kind, p_args, jsonb_build_object('job_uid', v_uid, 'tenant', v_tenant.id),
        v_queue, coalesce(enqueue.priority, v_known.priority)::smallint, v_known.max_attempts, p_run_at);
    IF p_run_at IS NULL THEN
        PERFORM headgate.notify_queues(ARRAY[v_queue]);
    END IF;
    RETURN v_uid;
END $$;

DROP FUNCTION headgate.tenant_field(headgate.tenants, text, text);
