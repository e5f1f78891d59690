-- Says on channel headgate_catalog what has changed in the catalog, whoever
-- changed it: this program, an older one, or a person with psql. The payload is
-- read by orchestrator/catalog/listener.go:
--
--   uuid,uuid,…   rows of these tenants, databases or servers have changed or gone
--   (empty)       something is new
--   *             more than fits
--
-- The triggers are one a statement, and a transaction's equal payloads are one
-- notification. Nothing that jobs do writes these tables.

CREATE FUNCTION headgate.catalog_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- 200 UUIDs with their commas stay below the 8,000 bytes of a payload.
    most CONSTANT int := 200;
    ids  text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('headgate_catalog', '*');
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT FROM changed) THEN
            PERFORM pg_notify('headgate_catalog', '');
        END IF;
        RETURN NULL;
    END IF;
    IF TG_ARGV[0] = 'tenant_id' THEN
        ids := ARRAY(SELECT DISTINCT tenant_id::text FROM changed LIMIT most + 1);
    ELSE
        ids := ARRAY(SELECT DISTINCT id::text FROM changed LIMIT most + 1);
    END IF;
    IF cardinality(ids) > most THEN
        PERFORM pg_notify('headgate_catalog', '*');
    ELSIF cardinality(ids) > 0 THEN
        PERFORM pg_notify('headgate_catalog', array_to_string(ids, ','));
    END IF;
    RETURN NULL;
END $$;

DO $$
DECLARE
    tab text;
    col text;
BEGIN
    FOR tab, col IN VALUES ('servers', 'id'), ('databases', 'id'), ('tenants', 'id'), ('tenant_domains', 'tenant_id'), ('tenant_emails', 'tenant_id') LOOP
        EXECUTE format('CREATE TRIGGER catalog_updated AFTER UPDATE ON headgate.%I REFERENCING OLD TABLE AS changed
                        FOR EACH STATEMENT EXECUTE FUNCTION headgate.catalog_changed(%L)', tab, col);
        EXECUTE format('CREATE TRIGGER catalog_deleted AFTER DELETE ON headgate.%I REFERENCING OLD TABLE AS changed
                        FOR EACH STATEMENT EXECUTE FUNCTION headgate.catalog_changed(%L)', tab, col);
        EXECUTE format('CREATE TRIGGER catalog_truncated AFTER TRUNCATE ON headgate.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION headgate.catalog_changed(%L)', tab, col);
        -- Nothing is remembered of a server or database that is not there.
        CONTINUE WHEN tab IN ('servers', 'databases');
        EXECUTE format('CREATE TRIGGER catalog_inserted AFTER INSERT ON headgate.%I REFERENCING NEW TABLE AS changed
                        FOR EACH STATEMENT EXECUTE FUNCTION headgate.catalog_changed(%L)', tab, col);
    END LOOP;
END $$;
