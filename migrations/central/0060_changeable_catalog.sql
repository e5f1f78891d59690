-- What is known of a tenant beside its name and place: its plan's and its own features and
-- kinds, its brands, and why it has its status.

-- A part of the world. Every server is in one, or in none that anybody has named.
CREATE TABLE headgate.regions (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    note       text NOT NULL DEFAULT '' CHECK (length(note) <= 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE headgate.servers ADD COLUMN region text REFERENCES headgate.regions ON UPDATE CASCADE;

CREATE INDEX servers_region ON headgate.servers (region);

-- A feature that a tenant can have: a switch, a number or a text. NULL for a default means
-- that the feature is absent where neither plan nor tenant has a value.
CREATE TABLE headgate.features (
    name          text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    type          text NOT NULL CHECK (type IN ('boolean', 'number', 'string')), -- as jsonb_typeof has them
    default_value jsonb CHECK (jsonb_typeof(default_value) = type),
    note          text NOT NULL DEFAULT '' CHECK (length(note) <= 200),
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- What a tenant may do only where a feature of it is true: run the jobs of a kind, have a
-- schedule of a name.
CREATE TABLE headgate.feature_gates (
    feature    text NOT NULL REFERENCES headgate.features ON UPDATE CASCADE,
    kind       text NOT NULL DEFAULT '',
    schedule   text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feature, kind, schedule),
    CHECK ((kind = '') <> (schedule = ''))
);

CREATE INDEX feature_gates_kind ON headgate.feature_gates (kind) WHERE kind <> '';
CREATE INDEX feature_gates_schedule ON headgate.feature_gates (schedule) WHERE schedule <> '';

-- A plan holds what its tenants have where they have no value of their own. The plan '' is
-- that of the tenants that have none.
CREATE TABLE headgate.plans (
    name       text PRIMARY KEY CHECK (length(name) <= 63),
    note       text NOT NULL DEFAULT '' CHECK (length(note) <= 200),
    features   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(features) = 'object'),
    kinds      text[] CHECK (array_position(kinds, NULL) IS NULL AND coalesce(array_ndims(kinds), 1) = 1), -- NULL: all
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO headgate.plans (name)
SELECT '' UNION SELECT plan FROM headgate.tenants UNION SELECT plan FROM headgate.plan_limits;

ALTER TABLE headgate.tenants ADD CONSTRAINT tenants_plan FOREIGN KEY (plan) REFERENCES headgate.plans ON UPDATE CASCADE;
ALTER TABLE headgate.plan_limits ADD CONSTRAINT plan_limits_plan FOREIGN KEY (plan) REFERENCES headgate.plans ON UPDATE CASCADE;

CREATE INDEX tenants_plan_slug ON headgate.tenants (plan, slug);

ALTER TABLE headgate.tenants
    ADD COLUMN features      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(features) = 'object'),
    ADD COLUMN kinds         text[] CHECK (array_position(kinds, NULL) IS NULL AND coalesce(array_ndims(kinds), 1) = 1), -- NULL: those of the plan
    ADD COLUMN version       int NOT NULL DEFAULT 1,    -- rises with each change of the row, by a trigger
    ADD COLUMN status_reason text NOT NULL DEFAULT '' CHECK (length(status_reason) <= 500),
    ADD COLUMN status_by     text NOT NULL DEFAULT '',
    ADD COLUMN status_since  timestamptz NOT NULL DEFAULT now() CHECK (isfinite(status_since)),
    -- What becomes of the waiting jobs of a tenant that takes no work.
    ADD COLUMN waiting       text NOT NULL DEFAULT 'hold' CHECK (waiting IN ('hold', 'cancel')),
    ADD UNIQUE (id, org_id);

-- A tenant that was removed keeps its UUID, its org_id and its name, so that they are
-- nobody else's ever. Its slug is its UUID, which no slug may look like.
ALTER TABLE headgate.tenants DROP CONSTRAINT tenants_status_check, DROP CONSTRAINT tenants_slug_check;
ALTER TABLE headgate.tenants
    ADD CONSTRAINT tenants_status_check CHECK (status IN ('provisioning', 'active', 'suspended', 'moving', 'archived', 'removed')),
    ADD CONSTRAINT tenants_slug_check CHECK (CASE WHEN status = 'removed' THEN slug = id::text ELSE slug ~ '^[a-z][a-z0-9-]{0,62}$' END),
    -- A removed tenant's rows are erased, or its database is out of the catalog.
    ALTER COLUMN database_id DROP NOT NULL,
    ALTER COLUMN database_kind DROP NOT NULL,
    ADD CONSTRAINT tenants_live_somewhere CHECK (database_id IS NOT NULL AND database_kind IS NOT NULL OR status = 'removed' AND database_id IS NULL AND database_kind IS NULL);

-- A subdivision of a tenant. org_brand_id tells brands of all tenants apart by one number.
CREATE TABLE headgate.brands (
    tenant_id    uuid NOT NULL,
    org_id       bigint NOT NULL CHECK (org_id <= 922337203685476),
    brand_id     int NOT NULL CHECK (brand_id BETWEEN 0 AND 9999),
    org_brand_id bigint GENERATED ALWAYS AS (org_id * 10000 + brand_id) STORED UNIQUE,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, brand_id),
    FOREIGN KEY (tenant_id, org_id) REFERENCES headgate.tenants (id, org_id)
);

-- A domain of a tenant's own counts once somebody has shown that it is the tenant's. NULL
-- for the token means that nobody need show it.
ALTER TABLE headgate.tenant_domains
    ADD COLUMN verified_at timestamptz CHECK (isfinite(verified_at)),
    ADD COLUMN token       text CHECK (token <> '');

-- Every key of features is a feature, and every value is of its type.
CREATE FUNCTION headgate.check_features() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
    v_type text;
BEGIN
    IF NEW.features = '{}' THEN
        RETURN NEW;
    END IF;
    -- Nobody takes a feature away that is being given a value.
    PERFORM FROM headgate.features f WHERE NEW.features ? f.name FOR KEY SHARE;
    SELECT e.key, f.type INTO v_key, v_type
    FROM jsonb_each(NEW.features) e LEFT JOIN headgate.features f ON f.name = e.key
    WHERE f.type IS DISTINCT FROM jsonb_typeof(e.value) ORDER BY e.key LIMIT 1;
    IF FOUND AND v_type IS NULL THEN
        RAISE EXCEPTION 'there is no feature %', v_key USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'features_known', DETAIL = v_key;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'the value of feature % is no %', v_key, v_type USING ERRCODE = 'check_violation', CONSTRAINT = 'features_type', DETAIL = v_key || ' ' || v_type;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER check_features BEFORE INSERT OR UPDATE OF features ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.check_features();
CREATE TRIGGER check_features BEFORE INSERT OR UPDATE OF features ON headgate.plans FOR EACH ROW EXECUTE FUNCTION headgate.check_features();

-- A feature that has values somewhere stays, with its name and type. The statement sees
-- what was committed while its row was waited for.
CREATE FUNCTION headgate.check_feature_unused() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.name = OLD.name AND NEW.type = OLD.type THEN
        RETURN NEW;
    END IF;
    SELECT (SELECT count(*) FROM headgate.tenants t WHERE t.features ? OLD.name) + (SELECT count(*) FROM headgate.plans p WHERE p.features ? OLD.name) INTO v_users;
    IF v_users > 0 THEN
        RAISE EXCEPTION 'feature % has values in % tenants and plans', OLD.name, v_users USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'features_unused', DETAIL = v_users::text;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER check_feature_unused BEFORE DELETE OR UPDATE ON headgate.features FOR EACH ROW EXECUTE FUNCTION headgate.check_feature_unused();

-- The values of a tenant's features: its own, else its plan's, else the default.
CREATE FUNCTION headgate.tenant_features(p_plan text, p_own jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT jsonb_object_agg(f.name, f.default_value) FROM headgate.features f WHERE f.default_value IS NOT NULL), '{}')
        || coalesce((SELECT p.features FROM headgate.plans p WHERE p.name = p_plan), '{}')
        || p_own
$$;

CREATE FUNCTION headgate.next_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

CREATE TRIGGER next_version BEFORE UPDATE ON headgate.tenants FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION headgate.next_version();

-- What of a row a selector never asks for, so that no schedule follows from a change of it.
CREATE OR REPLACE FUNCTION headgate.note_selector_changes() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    -- A move is nothing that a selector asks for.
    unasked CONSTANT text[] := ARRAY['generation', 'database_kind', 'name', 'version', 'status_reason', 'status_by', 'status_since', 'waiting', 'kinds', 'source'];
    ids   uuid[];
    noted uuid[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO headgate.selector_changes (tenant_id) SELECT id FROM fresh_rows;
        RETURN NULL;
    END IF;
    ids := ARRAY(
        SELECT n.id FROM fresh_rows n JOIN old_rows o ON o.id = n.id
        WHERE to_jsonb(n) - unasked <> to_jsonb(o) - unasked);
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

DROP TRIGGER lanes_tenant ON headgate.tenants;
CREATE TRIGGER lanes_tenant AFTER UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.plan <> NEW.plan OR OLD.database_id IS DISTINCT FROM NEW.database_id)
    EXECUTE FUNCTION headgate.owner_changed();

-- A plan begins when something names it first, without defaults.
CREATE FUNCTION headgate.begin_plan() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM headgate.plans p WHERE p.name = NEW.plan) THEN
        INSERT INTO headgate.plans (name) VALUES (NEW.plan) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER begin_plan BEFORE INSERT OR UPDATE OF plan ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.begin_plan();
CREATE TRIGGER begin_plan BEFORE INSERT OR UPDATE OF plan ON headgate.plan_limits FOR EACH ROW EXECUTE FUNCTION headgate.begin_plan();
