-- What a status brings along is decided here, so that a command and an UPDATE go one way.

DROP TRIGGER reset_waiting ON headgate.tenants;
DROP FUNCTION headgate.reset_waiting();
DROP TRIGGER note_status ON headgate.tenants;
DROP TRIGGER drop_domain_claims ON headgate.tenants;
DROP FUNCTION headgate.drop_domain_claims();

-- Which program has stopped a tenant: a sync lets only those work again that a sync has
-- stopped. The mark was a status_reason, which a person could give too.
ALTER TABLE headgate.tenants ADD COLUMN stopped_by text NOT NULL DEFAULT '' CHECK (stopped_by IN ('', 'sync'));
UPDATE headgate.tenants SET stopped_by = 'sync' WHERE status IN ('suspended', 'archived') AND status_reason = 'sync';

DROP TRIGGER audit_added ON headgate.tenants;
DROP TRIGGER audit_changed ON headgate.tenants;
DROP TRIGGER audit_removed ON headgate.tenants;
SELECT headgate.audit_table('tenants', 'tenant', 'id', 'slug', 'id', 'created_at,version,database_kind,status_since,stopped_by');

-- Mark a value as given by the writer, also where the value stays. A trigger does not see
-- otherwise which columns a statement sets. note_status takes the marks off again, because
-- triggers fire in the order of their names. No mark reaches the table, because of the
-- columns' CHECKs.
CREATE FUNCTION headgate.note_given_waiting() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.waiting := NEW.waiting || ' given';
    RETURN NEW;
END $$;

CREATE FUNCTION headgate.note_given_stop() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.stopped_by := NEW.stopped_by || ' given';
    RETURN NEW;
END $$;

CREATE TRIGGER a_note_given_stop BEFORE UPDATE OF stopped_by ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.note_given_stop();
CREATE TRIGGER a_note_given_waiting BEFORE UPDATE OF waiting ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.note_given_waiting();

-- Decides since when a tenant has its status, and what becomes of its waiting jobs. A move
-- waits from that moment (begin_move), so no writer sets it. Who takes no work for a while
-- keeps the waiting jobs, and who leaves loses them, unless the writer says otherwise. Whoever
-- sets a status, or gives a reason, has stopped the tenant himself.
CREATE OR REPLACE FUNCTION headgate.note_status() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_waiting text := nullif(replace(NEW.waiting, ' given', ''), NEW.waiting); -- as the writer gives it; NULL: not at all
    v_stopped text := nullif(replace(NEW.stopped_by, ' given', ''), NEW.stopped_by);
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.status_since := clock_timestamp();
        RETURN NEW;
    END IF;
    NEW.waiting := coalesce(v_waiting, OLD.waiting);
    NEW.stopped_by := CASE
        WHEN NEW.status NOT IN ('suspended', 'archived') THEN ''
        ELSE coalesce(v_stopped, CASE WHEN (NEW.status, NEW.status_reason, NEW.status_by) = (OLD.status, OLD.status_reason, OLD.status_by) THEN OLD.stopped_by ELSE '' END)
    END;
    IF NEW.status = OLD.status THEN
        NEW.status_since := OLD.status_since;
    ELSE
        NEW.status_since := clock_timestamp();
        NEW.waiting := coalesce(v_waiting, CASE NEW.status WHEN 'archived' THEN 'cancel' ELSE 'hold' END);
        IF NEW.status = 'active' THEN
            NEW.waiting := 'hold'; -- for the next suspension
        END IF;
    END IF;
    IF NEW.status = 'removed' THEN
        IF OLD.status = 'moving' THEN
            RAISE EXCEPTION 'tenant % is moving, and is not removed meanwhile', OLD.slug
                USING ERRCODE = 'HG020', HINT = 'Remove it when the move has ended.';
        END IF;
        -- Its slug is free. It holds no plan and no feature, so that those can be removed.
        NEW.waiting := 'cancel';
        NEW.slug := NEW.id::text;
        NEW.plan := '';
        NEW.features := '{}';
        NEW.kinds := NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER a_note_status BEFORE UPDATE ON headgate.tenants FOR EACH ROW
    WHEN ((OLD.status, OLD.status_since, OLD.status_reason, OLD.status_by, OLD.waiting, OLD.stopped_by) IS DISTINCT FROM (NEW.status, NEW.status_since, NEW.status_reason, NEW.status_by, NEW.waiting, NEW.stopped_by)) EXECUTE FUNCTION headgate.note_status();
CREATE TRIGGER a_note_status_inserted BEFORE INSERT ON headgate.tenants FOR EACH ROW EXECUTE FUNCTION headgate.note_status();

-- Takes along what a removed tenant had. Schedules of templates go as those of a tenant that
-- a selector no longer selects.
CREATE FUNCTION headgate.leave() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM headgate.tenant_domains WHERE tenant_id = NEW.id;
    DELETE FROM headgate.domain_claims WHERE tenant_id = NEW.id;
    DELETE FROM headgate.tenant_emails WHERE tenant_id = NEW.id;
    DELETE FROM headgate.schedules WHERE tenant_id = NEW.id AND fleet_id IS NULL;
    DELETE FROM headgate.tenant_limits WHERE tenant_id = NEW.id;
    DELETE FROM headgate.pauses WHERE scope = 'tenant' AND target = NEW.id::text;
    DELETE FROM headgate.closures WHERE tenant_id = NEW.id;
    DELETE FROM headgate.fleet_overrides WHERE tenant_id = NEW.id;
    RETURN NULL;
END $$;

CREATE TRIGGER leave AFTER UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (NEW.status = 'removed' AND OLD.status <> 'removed') EXECUTE FUNCTION headgate.leave();

-- Removes tenants, and returns what goes along with each.
CREATE OR REPLACE FUNCTION headgate.remove_tenants(p_tenants uuid[], p_reason text, p_by text)
RETURNS TABLE (tenant_id uuid, domains bigint, emails bigint, schedules bigint, limits bigint, pauses bigint, blackouts bigint, overrides bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- First, because it waits for whoever gives a tenant something meanwhile, who refers to it.
    PERFORM FROM headgate.tenants t WHERE t.id = ANY (p_tenants) ORDER BY t.id FOR UPDATE;
    RETURN QUERY
    SELECT t.id, (SELECT count(*) FROM headgate.tenant_domains x WHERE x.tenant_id = t.id), (SELECT count(*) FROM headgate.tenant_emails x WHERE x.tenant_id = t.id),
           (SELECT count(*) FROM headgate.schedules x WHERE x.tenant_id = t.id AND x.fleet_id IS NULL), (SELECT count(*) FROM headgate.tenant_limits x WHERE x.tenant_id = t.id),
           (SELECT count(*) FROM headgate.pauses x WHERE x.scope = 'tenant' AND x.target = t.id::text), (SELECT count(*) FROM headgate.closures x WHERE x.tenant_id = t.id),
           (SELECT count(*) FROM headgate.fleet_overrides x WHERE x.tenant_id = t.id)
    FROM unnest(p_tenants) AS t (id);
    UPDATE headgate.tenants SET status = 'removed', status_reason = p_reason, status_by = p_by WHERE id = ANY (p_tenants);
END $$;

-- A tenant keeps its UUID and its org_id, by which its rows, its jobs and the history know
-- it. org_key changes by `headgate tenant set --org-key`, for tables that the application has
-- converted.
CREATE FUNCTION headgate.tenant_stays_itself() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_stay_themselves', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
        MESSAGE = format('tenant %s keeps its id and its org_id %s: rows in its database bear them', OLD.id, OLD.org_id),
        HINT = 'Add a new tenant.';
END $$;

CREATE TRIGGER tenant_stays_itself BEFORE UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (OLD.status <> 'removed' AND (NEW.id <> OLD.id OR NEW.org_id <> OLD.org_id)) EXECUTE FUNCTION headgate.tenant_stays_itself();
