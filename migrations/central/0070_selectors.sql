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

-- What calls these is written anew in 0074.
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

DROP FUNCTION headgate.tenant_field(headgate.tenants, text, text);
