-- What a removed tenant still holds, and what transactions with an older snapshot do not see.

-- A trigger that asks whether something is in use sees what others have committed only at
-- isolation level read committed. With an older snapshot two sessions each read what the other
-- changes.
CREATE FUNCTION headgate.refuse_old_snapshot(p_what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION '% at isolation level read committed only, because an older snapshot does not show what others have changed', p_what
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;
END $$;

-- The grants of headgate.enqueue that name a slug.
CREATE FUNCTION headgate.grants_naming(p_slug text) RETURNS TABLE (role text, kind text)
LANGUAGE sql STABLE AS $$
    SELECT g.role, g.kind FROM headgate.enqueue_grants g
    WHERE p_slug = ANY ((g.selection).tenants)
       OR strpos((g.selection).path::text, '"tenant"') > 0 AND strpos((g.selection).path::text, '"' || p_slug || '"') > 0
$$;

-- A slug that a tenant gives up may be another customer's tomorrow. A grant of headgate.enqueue
-- that names it must not reach that one, so the grant goes first. Whoever adds a grant holds
-- the tenants that it names (orchestrator/admission), and a slug is a key: a change of it
-- waits for them, and then sees what they have committed.
CREATE FUNCTION headgate.check_slug_ungranted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_grant record;
BEGIN
    PERFORM headgate.refuse_old_snapshot(format('the slug of tenant %s changes', OLD.slug));
    SELECT g.role, g.kind INTO v_grant FROM headgate.grants_naming(OLD.slug) g ORDER BY g.role, g.kind LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role % may enqueue kind % for tenant % by that name', v_grant.role, v_grant.kind, OLD.slug
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'grants_name_tenants', DETAIL = v_grant.role || ' ' || v_grant.kind;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER check_slug_ungranted AFTER UPDATE OF slug ON headgate.tenants FOR EACH ROW WHEN (OLD.slug <> NEW.slug)
    EXECUTE FUNCTION headgate.check_slug_ungranted();

-- A value is checked when it is given. One that has been there stays, so that it stops no
-- change of something else.
CREATE OR REPLACE FUNCTION headgate.check_features() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_given jsonb := NEW.features;
    v_of    text := CASE TG_TABLE_NAME WHEN 'tenants' THEN 'tenant ' || (to_jsonb(NEW)->>'slug') ELSE 'plan ' || quote_literal(to_jsonb(NEW)->>'name') END;
    v_key   text;
    v_type  text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        v_given := coalesce((SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(NEW.features) e WHERE e.value IS DISTINCT FROM OLD.features -> e.key), '{}');
    END IF;
    IF v_given = '{}' THEN
        RETURN NEW;
    END IF;
    -- Nobody takes a feature away, or changes its type, that is being given a value.
    PERFORM FROM headgate.features f WHERE v_given ? f.name FOR KEY SHARE;
    SELECT e.key, f.type INTO v_key, v_type
    FROM jsonb_each(v_given) e LEFT JOIN headgate.features f ON f.name = e.key
    WHERE f.type IS DISTINCT FROM jsonb_typeof(e.value) ORDER BY e.key LIMIT 1;
    IF FOUND AND v_type IS NULL THEN
        RAISE EXCEPTION 'there is no feature %, of which % gets a value', v_key, v_of USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'features_known', DETAIL = v_key;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'the value that % gets of feature % is no %', v_of, v_key, v_type USING ERRCODE = 'check_violation', CONSTRAINT = 'features_type', DETAIL = v_key || ' ' || v_type;
    END IF;
    RETURN NEW;
END $$;

-- A change of the type locks the feature as its removal does: it waits for those who are giving
-- the feature a value (FOR KEY SHARE), and they wait for it.
CREATE OR REPLACE FUNCTION headgate.check_feature_unused() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.name = OLD.name AND NEW.type = OLD.type THEN
        RETURN NEW;
    END IF;
    PERFORM headgate.refuse_old_snapshot(format('feature %s goes, or changes its type,', OLD.name));
    PERFORM FROM headgate.features f WHERE f.name = OLD.name FOR UPDATE;
    SELECT (SELECT count(*) FROM headgate.tenants t WHERE t.features ? OLD.name) + (SELECT count(*) FROM headgate.plans p WHERE p.features ? OLD.name) INTO v_users;
    IF v_users > 0 THEN
        RAISE EXCEPTION 'feature % has values in % tenants and plans', OLD.name, v_users USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'features_unused', DETAIL = v_users::text;
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

-- A database is locked before its tenants are counted. EXCEPT and GROUP BY stand where a join
-- would keep the plan of its first call (0077). With an older snapshot a database is locked even if it has no bound there: the
-- lock fails if somebody has given it one since.
CREATE OR REPLACE FUNCTION headgate.check_placement() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gaining uuid[]; -- databases that get tenants
    v_db      record;
    v_plan    text;
    v_count   bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        v_gaining := ARRAY(SELECT DISTINCT n.database_id FROM fresh_rows n WHERE n.database_id IS NOT NULL);
    ELSE
        v_gaining := ARRAY(SELECT DISTINCT x.database_id FROM (SELECT n.id, n.database_id FROM fresh_rows n EXCEPT SELECT o.id, o.database_id FROM old_rows o) x
            WHERE x.database_id IS NOT NULL);
    END IF;
    IF cardinality(v_gaining) = 0 THEN
        RETURN NULL;
    END IF;
    FOR v_db IN
        SELECT d.id, d.name, d.max_tenants, d.plans FROM headgate.databases d
        WHERE d.id = ANY (v_gaining) AND (d.max_tenants IS NOT NULL OR d.plans IS NOT NULL OR current_setting('transaction_isolation') <> 'read committed')
        ORDER BY d.id FOR NO KEY UPDATE
    LOOP
        IF v_db.max_tenants IS NOT NULL THEN
            PERFORM headgate.refuse_old_snapshot(format('tenants are placed in database %s, which takes %s,', v_db.name, v_db.max_tenants));
        END IF;
        v_count := headgate.tenants_in(v_db.id);
        IF v_count > v_db.max_tenants THEN
            RAISE EXCEPTION 'database % takes % tenants, and would have %', v_db.name, v_db.max_tenants, v_count
                USING ERRCODE = 'check_violation', CONSTRAINT = 'databases_full', DETAIL = v_db.name;
        END IF;
        IF TG_OP = 'INSERT' THEN
            SELECT n.plan INTO v_plan FROM fresh_rows n WHERE n.database_id = v_db.id AND NOT n.plan = ANY (v_db.plans) LIMIT 1;
        ELSE -- of tenants that were elsewhere before
            SELECT min(x.plan) INTO v_plan
            FROM (SELECT n.id, n.database_id, n.plan, true AS fresh FROM fresh_rows n UNION ALL SELECT o.id, o.database_id, o.plan, false FROM old_rows o) x
            WHERE x.database_id = v_db.id
            GROUP BY x.id HAVING bool_and(x.fresh) AND NOT min(x.plan) = ANY (v_db.plans) LIMIT 1;
        END IF;
        IF FOUND THEN
            RAISE EXCEPTION 'database % takes no tenant of plan %', v_db.name, quote_literal(v_plan)
                USING ERRCODE = 'check_violation', CONSTRAINT = 'databases_plans', DETAIL = v_db.name;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- What becomes of waiting jobs is decided with a suspension, and ends with it, also where
-- somebody sets the status with SQL.
CREATE FUNCTION headgate.reset_waiting() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.waiting := 'hold';
    RETURN NEW;
END $$;

CREATE TRIGGER reset_waiting BEFORE UPDATE OF status ON headgate.tenants FOR EACH ROW
    WHEN (NEW.status = 'active' AND OLD.status <> 'active' AND NEW.waiting = OLD.waiting) EXECUTE FUNCTION headgate.reset_waiting();
