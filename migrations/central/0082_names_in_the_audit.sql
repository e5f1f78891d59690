-- The audit named pauses of servers, adoptions of databases and exceptions of templates by
-- UUID, which no person knows them by. Each is named as what it is about, at the time of the
-- change. A tenant's own rows keep the tenant's UUID, which readers look up.
CREATE OR REPLACE FUNCTION headgate.audit_line(p_args text[], whole jsonb, before jsonb, after jsonb)
RETURNS TABLE (object text, action text, key text, name text, tenant_id uuid, changes jsonb)
LANGUAGE sql STABLE AS $$
    SELECT p_args[1], CASE WHEN before IS NULL THEN 'add' WHEN after IS NULL THEN 'remove' ELSE 'change' END,
           (SELECT string_agg(coalesce(whole->>k, ''), '/' ORDER BY n) FROM unnest(string_to_array(p_args[2], ',')) WITH ORDINALITY AS x (k, n)),
           coalesce(CASE WHEN p_args[1] = 'pause' AND whole->>'scope' = 'server' THEN (SELECT s.name FROM headgate.servers s WHERE s.id = headgate.uuid_or_null(whole->>'target'))
                         WHEN p_args[1] = 'adoption' THEN (SELECT d.name FROM headgate.databases d WHERE d.id = headgate.uuid_or_null(whole->>'database_id'))
                         WHEN p_args[1] = 'template override' THEN (SELECT f.name FROM headgate.fleets f WHERE f.id = headgate.uuid_or_null(whole->>'fleet_id')) END,
                    whole->>p_args[3], ''),
           CASE WHEN p_args[4] <> 'target' OR whole->>'scope' = 'tenant' THEN headgate.uuid_or_null(whole->>p_args[4]) END, -- of pauses
           headgate.changed_fields(coalesce(before, '{}'), coalesce(after, '{}'))
$$;
