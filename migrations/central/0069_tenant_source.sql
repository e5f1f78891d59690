-- Which sync a tenant comes from. A sync suspends the tenants that are missing in its
-- source, and no others: '' is the source of what people have added.
ALTER TABLE headgate.tenants
    ADD COLUMN source text NOT NULL DEFAULT '' CHECK (source = '' OR source ~ '^[a-z][a-z0-9-]{0,62}$');

-- The source is nothing that a selector asks for.
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
