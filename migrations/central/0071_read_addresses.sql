-- A database may have a read address: the job login's at a replica of the database's server.
-- Sealed like the login itself. NULL means that there is none; the version goes on rising.

ALTER TABLE headgate.databases
    ADD COLUMN job_read bytea,
    ADD COLUMN job_read_version int NOT NULL DEFAULT 0,
    ADD COLUMN job_read_ca text REFERENCES headgate.certificate_authorities;

CREATE OR REPLACE FUNCTION headgate.sealed_after(after uuid, most int)
RETURNS TABLE (tab text, col text, owner uuid, name text, version int, sealed bytea)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'databases', v.col, d.id, d.name, v.version, v.sealed
    FROM (SELECT * FROM headgate.databases WHERE id > after ORDER BY id LIMIT most) d
    CROSS JOIN LATERAL (VALUES ('job_login', d.job_version, d.job_login),
                               ('owner_login', d.owner_version, d.owner_login),
                               ('job_direct', d.job_direct_version, d.job_direct),
                               ('owner_direct', d.owner_direct_version, d.owner_direct),
                               ('job_read', d.job_read_version, d.job_read),
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

DROP TRIGGER check_seals_inserted ON headgate.databases;
DROP TRIGGER check_seals_updated ON headgate.databases;
CREATE TRIGGER check_seals_inserted AFTER INSERT ON headgate.databases REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_login', 'owner_login', 'job_direct', 'owner_direct', 'job_read', 'signing_key');
CREATE TRIGGER check_seals_updated AFTER UPDATE ON headgate.databases REFERENCING OLD TABLE AS former NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION headgate.check_seals('job_login', 'owner_login', 'job_direct', 'owner_direct', 'job_read', 'signing_key');

-- The one list of the authorities that a database's addresses name. A test of
-- orchestrator/catalog holds the list against the columns that there are.
CREATE FUNCTION headgate.authorities_of(d headgate.databases) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_remove(ARRAY[d.job_ca, d.owner_ca, d.job_direct_ca, d.owner_direct_ca, d.job_read_ca], NULL);
