-- The few tenants whose waiting jobs are cancelled while they take no work.
CREATE INDEX tenants_waiting_cancel ON headgate.tenants (id) WHERE waiting = 'cancel';

-- Removes tenants, whose rows the caller has locked, and returns what went along with each.
-- Schedules of templates go as those of a tenant that a selector no longer selects. A removed
-- tenant holds no plan and no feature, so that those can be removed.
CREATE FUNCTION headgate.remove_tenants(p_tenants uuid[], p_reason text, p_by text)
RETURNS TABLE (tenant_id uuid, domains bigint, emails bigint, schedules bigint, limits bigint, pauses bigint, blackouts bigint, overrides bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- First, because it waits for whoever gives a tenant something meanwhile: a slug is a key.
    UPDATE headgate.tenants
    SET status = 'removed', slug = id::text, status_since = clock_timestamp(), status_reason = p_reason, status_by = p_by, waiting = 'cancel', plan = '', features = '{}', kinds = NULL
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
