-- The keys that seal addresses: which there were, and which must seal nothing any more.
-- No key stands here, only its id.

CREATE TABLE headgate.keys (
    id         text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    seen_at    timestamptz NOT NULL DEFAULT now() CHECK (isfinite(seen_at)),
    retired_at timestamptz CHECK (isfinite(retired_at)),
    actor      text NOT NULL DEFAULT '', -- who retired it
    CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);

-- The id of the key that a value says it is sealed with; NULL for what is no sealed value.
-- The form is that of orchestrator/catalog/seal.go. No value makes it fail, because one bad
-- row must not stop the others: encode takes every byte.
CREATE FUNCTION headgate.sealed_by(sealed bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN length(sealed) > 2 AND get_byte(sealed, 0) = 1
            THEN substring(encode(substring(sealed FROM 3 FOR get_byte(sealed, 1)), 'escape') FROM '^[a-z0-9][a-z0-9_-]{0,31}$') END;

-- The one list of what is sealed: all values of the next rows by id, so many of each table.
-- Whoever adds a sealed column adds it here (another table by UNION ALL), and a trigger below
-- to its table; a test of orchestrator/catalog holds both against the columns there are.
CREATE FUNCTION headgate.sealed_after(after uuid, most int)
RETURNS TABLE (tab text, col text, owner uuid, name text, version int, sealed bytea)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'databases', v.col, d.id, d.name, v.version, v.sealed
    FROM (SELECT * FROM headgate.databases WHERE id > after ORDER BY id LIMIT most) d
    CROSS JOIN LATERAL (VALUES ('job_login', d.job_version, d.job_login),
                               ('owner_login', d.owner_version, d.owner_login),
                               ('job_direct', d.job_direct_version, d.job_direct),
                               ('owner_direct', d.owner_direct_version, d.owner_direct),
                               ('signing_key', 1, d.signing_key)) v(col, version, sealed)
    WHERE v.sealed IS NOT NULL
    UNION ALL
    SELECT 'database_intents', v.col, i.id, i.name, 1, v.sealed
    FROM (SELECT * FROM headgate.database_intents WHERE id > after ORDER BY id LIMIT most) i
    CROSS JOIN LATERAL (VALUES ('job_password', i.job_password),
                               ('owner_password', i.owner_password),
                               ('app_password', i.app_password)) v(col, sealed)
    WHERE v.sealed IS NOT NULL;
END;

CREATE VIEW headgate.sealed_values AS
SELECT * FROM headgate.sealed_after('00000000-0000-0000-0000-000000000000', NULL);

-- Refuses what a retired key has sealed, whichever program writes it. The row of the key
-- stays locked until the writer's transaction ends, so that a key cannot be retired between
-- this look and that end. The arguments are the table's sealed columns.
CREATE FUNCTION headgate.check_seals() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed text;
    key     text;
    stands  text;
BEGIN
    SELECT string_agg(CASE TG_OP
        WHEN 'INSERT' THEN format('SELECT headgate.sealed_by(%I) FROM written', col)
        ELSE format('SELECT headgate.sealed_by(w.%1$I) FROM written w LEFT JOIN former f ON f.id = w.id WHERE w.%1$I IS DISTINCT FROM f.%1$I', col)
        END, ' UNION ') INTO changed
    FROM unnest(TG_ARGV) AS col;
    FOR key IN EXECUTE format('SELECT id FROM (%s) AS c(id) WHERE id IS NOT NULL ORDER BY id', changed) LOOP
        INSERT INTO headgate.keys (id) VALUES (key) ON CONFLICT DO NOTHING;
        SELECT state INTO STRICT stands FROM headgate.keys WHERE id = key FOR SHARE;
        IF stands = 'retired' THEN
            RAISE EXCEPTION 'key % is retired: it may seal nothing any more', key USING ERRCODE = 'HG010';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER check_seals_inserted AFTER INSERT ON headgate.databases REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_login', 'owner_login', 'job_direct', 'owner_direct', 'signing_key');
CREATE TRIGGER check_seals_updated AFTER UPDATE ON headgate.databases REFERENCING OLD TABLE AS former NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_login', 'owner_login', 'job_direct', 'owner_direct', 'signing_key');

CREATE TRIGGER check_seals_inserted AFTER INSERT ON headgate.database_intents REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_password', 'owner_password', 'app_password');
CREATE TRIGGER check_seals_updated AFTER UPDATE ON headgate.database_intents REFERENCING OLD TABLE AS former NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_password', 'owner_password', 'app_password');

-- Puts what is sealed anew in the place of what it was, each value by itself, and returns
-- the numbers of those that it has put. A row that somebody holds is left out, and so is a
-- value that has changed: neither is waited for. Table and column are as sealed_after says.
CREATE FUNCTION headgate.reseal(tabs text[], cols text[], owners uuid[], was bytea[], becomes bytea[]) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done bigint[] := '{}';
    part bigint[];
    tab  text;
    col  text;
BEGIN
    FOR tab, col IN SELECT DISTINCT g.t, g.c FROM unnest(tabs, cols) AS g(t, c) ORDER BY 1, 2 LOOP
        EXECUTE format('
            WITH given AS (SELECT * FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS g(t, c, id, was, becomes, n) WHERE t = $6 AND c = $7),
            free AS (SELECT id FROM headgate.%1$I WHERE id IN (SELECT id FROM given) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED),
            put AS (UPDATE headgate.%1$I d SET %2$I = g.becomes FROM given g JOIN free ON free.id = g.id WHERE d.id = g.id AND d.%2$I = g.was RETURNING g.n)
            SELECT array_agg(n) FROM put', tab, col)
            INTO part USING tabs, cols, owners, was, becomes, tab, col;
        done := done || coalesce(part, '{}');
    END LOOP;
    RETURN done;
END $$;

-- What is sealed already, under the keys that sealed it.
INSERT INTO headgate.keys (id)
SELECT DISTINCT headgate.sealed_by(sealed) FROM headgate.sealed_values WHERE headgate.sealed_by(sealed) IS NOT NULL;
