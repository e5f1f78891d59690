-- What headgate.erase does with Headgate's own rows of an organisation. Only the owner may.

-- Shuts an organisation out for good: a job of any generation is refused from then on, also
-- by an attempt that its worker began before it was taken for dead.
CREATE FUNCTION headgate.close_organisation(p_org bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO headgate.fence (org_id, generation) VALUES (p_org, 9223372036854775807)
    ON CONFLICT (org_id) DO UPDATE SET generation = excluded.generation
$$;

-- Deletes up to a number of ledger rows of an organisation that was shut out, and returns how
-- many it has deleted and whether others are left, which somebody has locked.
CREATE FUNCTION headgate.forget_organisation(p_org bigint, p_limit int, OUT deleted bigint, OUT left_over boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM headgate.fence f WHERE f.org_id = p_org AND f.generation = 9223372036854775807) THEN
        RAISE EXCEPTION 'organisation % is not shut out: its ledger must remember', p_org USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    DELETE FROM headgate.ledger WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM headgate.ledger l WHERE l.org_id = p_org LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    left_over := deleted = 0 AND EXISTS (SELECT FROM headgate.ledger l WHERE l.org_id = p_org);
END $$;

-- Runs a statement for each of some rows, by their places ($1), so that a row which a trigger
-- or a constraint refuses keeps no other one back. It returns how many rows are deleted, how
-- many refused, and of the last of these the code and the constraint. A client would see an
-- error for each.
CREATE FUNCTION headgate.delete_apart(p_sql text, p_places text[], OUT deleted bigint, OUT refused bigint, OUT code text, OUT key text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place text;
    n     bigint;
BEGIN
    deleted := 0;
    refused := 0;
    code := '';
    key := '';
    FOREACH place IN ARRAY p_places LOOP
        BEGIN
            EXECUTE p_sql USING ARRAY[place];
            GET DIAGNOSTICS n = ROW_COUNT;
            deleted := deleted + n;
        EXCEPTION WHEN OTHERS THEN
            refused := refused + 1;
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, key = CONSTRAINT_NAME;
        END;
    END LOOP;
END $$;

-- Says what code of the application the deletion of rows of a table would run, with the rights
-- of who deletes: triggers, rules, and the triggers and rules of tables from which a foreign
-- key with an action leads here, because Postgres runs that action's statement for no row too.
-- A trigger whose function is declared as trusted is not named. The stamp is another one
-- whenever any of that, or a foreign key to the table, is another one.
CREATE FUNCTION headgate.on_delete(p_table oid, OUT code text, OUT stamp text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH keys AS (
        SELECT g.oid, g.tgenabled, f.conrelid, CASE f.confdeltype WHEN 'c' THEN 8 WHEN 'n' THEN 16 WHEN 'd' THEN 16 ELSE 0 END AS event
          FROM pg_trigger g JOIN pg_constraint f ON f.oid = g.tgconstraint AND f.contype = 'f'
         WHERE g.tgrelid = p_table AND g.tgtype & 8 = 8
    ), met (relation, event) AS (
        SELECT p_table, 8 UNION SELECT k.conrelid, k.event FROM keys k WHERE k.event > 0
    ), code AS (
        SELECT g.oid, g.tgenabled AS enabled, format('trigger %I of %s', g.tgname, g.tgrelid::regclass) AS says,
               n.nspname = 'headgate' OR EXISTS (SELECT FROM headgate.protected d WHERE d.mode = 'function' AND d.object = format('%I.%I()', n.nspname, p.proname)) AS trusted
          FROM met m JOIN pg_trigger g ON g.tgrelid = m.relation AND g.tgtype & m.event > 0 AND g.tgenabled <> 'D'
          JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE NOT EXISTS (SELECT FROM pg_constraint f WHERE f.oid = g.tgconstraint AND f.contype = 'f')
        UNION ALL
        SELECT w.oid, w.ev_enabled, format('rule %I of %s', w.rulename, w.ev_class::regclass), false
          FROM met m JOIN pg_rewrite w ON w.ev_class = m.relation AND w.ev_type = CASE m.event WHEN 8 THEN '4' ELSE '2' END AND w.ev_enabled <> 'D'
    )
    SELECT coalesce((SELECT string_agg(DISTINCT c.says, ', ' ORDER BY c.says) FROM code c WHERE NOT c.trusted), ''),
           coalesce((SELECT string_agg(format('%s%s', x.oid, x.state), ' ' ORDER BY x.oid, x.state)
                       FROM (SELECT k.oid, k.tgenabled::text AS state FROM keys k UNION ALL SELECT c.oid, format('%s%s', c.enabled, c.trusted) FROM code c) x), '')
$$;

REVOKE ALL ON FUNCTION headgate.close_organisation(bigint), headgate.forget_organisation(bigint, int), headgate.delete_apart(text, text[]), headgate.on_delete(oid) FROM PUBLIC;

-- The type's name was looked for along the session's search_path, where the owner of the
-- database may put a type of that name whose check runs with the job's rights.
DO $$
BEGIN
    IF (SELECT prosrc FROM pg_catalog.pg_proc WHERE oid = 'headgate.watch_client(bigint, boolean)'::regprocedure) LIKE '%set_config%' THEN
        CREATE OR REPLACE FUNCTION headgate.watch_client(p_every_ms bigint, p_local boolean) RETURNS text LANGUAGE sql
            AS 'SELECT pg_catalog.set_config(''client_connection_check_interval'', p_every_ms::pg_catalog.text, p_local)';
    END IF;
END $$;
