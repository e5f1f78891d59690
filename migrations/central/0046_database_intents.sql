-- A tenant's database that is being made, or made ready, on its server. The row comes before
-- the first statement there and goes with the one that enters the database in the catalog.
-- It says what may be removed again: nothing on the server is ours because of its name alone.

CREATE TABLE headgate.database_intents (
    id             uuid PRIMARY KEY,               -- the database's in the catalog later; the roles' comments bear it
    name           text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,53}$'),
    server_id      uuid NOT NULL REFERENCES headgate.servers,
    dbname         text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('shared', 'dedicated')),
    creates        boolean NOT NULL,               -- the database too; false: one that exists is adopted
    job_role       text NOT NULL,
    owner_role     text NOT NULL,                  -- of schema headgate
    app_role       text CHECK ((app_role IS NOT NULL) = creates),
    -- Sealed (orchestrator/catalog/seal.go), bound to id and column, version 1.
    job_password   bytea NOT NULL,
    owner_password bytea NOT NULL,
    app_password   bytea CHECK ((app_password IS NOT NULL) = creates),
    step           text NOT NULL,                  -- the last that was begun
    error          text NOT NULL DEFAULT '',       -- of the last run, if it failed
    actor          text NOT NULL DEFAULT '',
    begun_at       timestamptz NOT NULL DEFAULT now() CHECK (isfinite(begun_at)),
    UNIQUE (server_id, dbname)
);
