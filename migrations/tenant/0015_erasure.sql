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
LANGUAGE plpgsql AS $$
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

REVOKE ALL ON FUNCTION headgate.close_organisation(bigint), headgate.forget_organisation(bigint, int), headgate.delete_apart(text, text[]) FROM PUBLIC;
