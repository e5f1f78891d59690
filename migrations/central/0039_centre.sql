-- A tenant database knows its centre, so that a copy of the central database does not
-- work the same tenants beside the first one. The database's identity row bears
--
--   the centre's mark: the server's system identifier, this database's oid and the id of
--   the catalog. A dump that is restored, and a copy by TEMPLATE, have another mark.
--
--   a token of the centre's: a base backup that is started beside its original has the
--   same mark, and lacks the tokens that the original has made since.
--
-- Workers make a token an hour. A token is left in tenant databases only when it is ten
-- minutes old, so that a failover that loses the last minutes loses no token in use.
-- Tokens are kept for 90 days. A token begins with its hour, so that one which is older
-- than that, in a tenant's database that was at rest, is not taken for another centre's.

CREATE TABLE headgate.centre (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id       uuid NOT NULL DEFAULT gen_random_uuid(),    -- of the catalog
    mark     text                                        -- of the database that it was when its first worker started, or that has adopted all
);

INSERT INTO headgate.centre DEFAULT VALUES;

CREATE TABLE headgate.centre_tokens (
    hour       timestamptz PRIMARY KEY,                  -- its beginning
    token      text NOT NULL,                            -- the hour, counted from 1970, and a UUID
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Decisions to take a database over that bears another centre's mark, or a token that
-- this one does not know. One holds for the first state that is found, and no other; it
-- goes when the database is this centre's.
CREATE TABLE headgate.adoptions (
    database_id uuid PRIMARY KEY REFERENCES headgate.databases ON DELETE CASCADE,
    centre      text NOT NULL,                           -- the mark of the centre that adopts
    found       text,                                    -- mark and token that were found; NULL: not met yet
    actor       text NOT NULL DEFAULT '',
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The database's owner may see what other logins may not, and the mark must not depend on
-- who asks.
CREATE FUNCTION headgate.centre_mark() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE system text := '-';
BEGIN
    BEGIN
        SELECT c.system_identifier::text INTO system FROM pg_control_system() c;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system := '-';
    END;
    RETURN (SELECT system || '/' || d.oid || '/' || c.id FROM pg_database d, headgate.centre c WHERE d.datname = current_database());
END $$;
