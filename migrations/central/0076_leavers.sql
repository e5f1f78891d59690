-- The few tenants whose waiting jobs are cancelled while they take no work.
CREATE INDEX tenants_waiting_cancel ON headgate.tenants (status_since) WHERE waiting = 'cancel';

-- Removes tenants, whose rows the caller has locked, and returns what went along with each.
-- Schedules of templates go as those of a tenant that a selector no longer selects.
CREATE FUNCTION headgate.remove_tenants(p_tenants uuid[], p_reason text, p_by text)
RETURNS TABLE (tenant_id uuid, domains bigint, emails bigint, schedules bigint, limits bigint, pauses bigint, blackouts bigint, overrides bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- First, because it waits for whoever gives a tenant something meanwhile: a slug is a key.
    UPDATE headgate.tenants
    SET status = 'removed', slug = id::text, status_since = clock_timestamp(), status_reason = p_reason, status_by = p_by, waiting = 'cancel'
    WHERE id = ANY (p_tenants);

    RETURN QUERY
    WITH d AS (DELETE FROM headgate.tenant_domains x WHERE x.tenant_id = ANY (p_tenants) RETURNING x.tenant_id),
         e AS (DELETE FROM headgate.tenant_emails x WHERE x.tenant_id = ANY (p_tenants) RETURNING x.tenant_id),
         s AS (DELETE FROM headgate.schedules x WHERE x.tenant_id = ANY (p_tenants) AND x.fleet_id IS NULL RETURNING x.tenant_id),
         l AS (DELETE FROM headgate.tenant_limits x WHERE x.tenant_id = ANY (p_tenants) RETURNING x.tenant_id),
         p AS (DELETE FROM headgate.pauses x WHERE x.scope = 'tenant' AND x.target = ANY (p_tenants::text[]) RETURNING x.target::uuid AS tenant_id),
         c AS (DELETE FROM headgate.closures x WHERE x.tenant_id = ANY (p_tenants) RETURNING x.tenant_id),
         o AS (DELETE FROM headgate.fleet_overrides x WHERE x.tenant_id = ANY (p_tenants) RETURNING x.tenant_id)
    SELECT t.id, (SELECT count(*) FROM d WHERE d.tenant_id = t.id), (SELECT count(*) FROM e WHERE e.tenant_id = t.id), (SELECT count(*) FROM s WHERE s.tenant_id = t.id),
           (SELECT count(*) FROM l WHERE l.tenant_id = t.id), (SELECT count(*) FROM p WHERE p.tenant_id = t.id), (SELECT count(*) FROM c WHERE c.tenant_id = t.id),
           (SELECT count(*) FROM o WHERE o.tenant_id = t.id)
    FROM unnest(p_tenants) AS t (id);
END $$;

-- A slug that a tenant gives up may be another customer's tomorrow. A grant of headgate.enqueue
-- that names it must not reach that one, so the grant goes first. Whoever adds a grant holds
-- the tenants that it names (orchestrator/admission), and a slug is a key: a change of it
-- waits for them, and then sees what they have committed.
CREATE FUNCTION headgate.check_slug_ungranted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_grant record;
BEGIN
    SELECT g.role, g.kind INTO v_grant FROM headgate.enqueue_grants g 
    WHERE OLD.slug = ANY ((g.selection).tenants)
       OR strpos((g.selection).path::text, '"tenant"') > 0 AND strpos((g.selection).path::text, '"' || OLD.slug || '"') > 0
    ORDER BY g.role, g.kind LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role % may enqueue kind % for tenant % by that name', v_grant.role, v_grant.kind, OLD.slug
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'grants_name_tenants', DETAIL = v_grant.role || ' ' || v_grant.kind;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER check_slug_ungranted AFTER UPDATE OF slug ON headgate.tenants FOR EACH ROW WHEN (OLD.slug <> NEW.slug)
    EXECUTE FUNCTION headgate.check_slug_ungranted();
