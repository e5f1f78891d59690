-- A removed tenant's rows may lie in a database that left the catalog, and the database may
-- come back under another id. Its key is nobody else's in any database from then on. Before,
-- the unique index by database keeps it.
CREATE INDEX tenants_placeless_org_key ON headgate.tenants (coalesce(org_key, org_id::text)) WHERE database_id IS NULL;

CREATE FUNCTION headgate.check_org_key_new() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key  text := coalesce(NEW.org_key, NEW.org_id::text);
    v_left uuid;
BEGIN
    SELECT t.id INTO v_left FROM headgate.tenants t WHERE t.database_id IS NULL AND coalesce(t.org_key, t.org_id::text) = v_key AND t.id <> NEW.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation', CONSTRAINT = 'org_keys_never_again', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
            MESSAGE = format('org_key %s was that of tenant %s, which was removed, and whose rows may lie in a database that left the catalog', to_json(v_key), v_left),
            DETAIL = v_key, HINT = 'Give an org_key that no tenant has had.';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER check_org_key_new_inserted AFTER INSERT ON headgate.tenants FOR EACH ROW WHEN (NEW.database_id IS NOT NULL) EXECUTE FUNCTION headgate.check_org_key_new();
CREATE TRIGGER check_org_key_new_updated AFTER UPDATE ON headgate.tenants FOR EACH ROW
    WHEN (NEW.database_id IS NOT NULL AND (OLD.org_key IS DISTINCT FROM NEW.org_key OR OLD.database_id IS DISTINCT FROM NEW.database_id))
    EXECUTE FUNCTION headgate.check_org_key_new();
